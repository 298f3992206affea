# Sourced by ops/run and ops/test: finds the Swift toolchain, installs the packages that are missing, builds.

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The packages that the build needs, and a file of each that tells whether it is there.
required_packages="g++ git libcurl4-openssl-dev libssl-dev libxml2-dev libsqlite3-dev libxxhash-dev pkg-config python3"

find_swift() {
    if ! command -v swift >/dev/null 2>&1; then
        [ -x /opt/swift/usr/bin/swift ] || fail "there is no Swift toolchain: put 'swift' (6.2 or later) on the PATH, or unpack it to /opt/swift."
        PATH="/opt/swift/usr/bin:$PATH"
        export PATH
    fi
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
    case "$version" in
        6.[2-9]* | 6.1[0-9]* | [7-9].* | [1-9][0-9].*) ;;
        *) fail "Swift ${version:-of an unknown version} is too old: 6.2 or later is needed." ;;
    esac
}

install_packages() {
    command -v dpkg-query >/dev/null 2>&1 || {
        say "This is not Debian: make sure that these packages, by whatever name, are installed: $required_packages"
        return 0
    }
    local missing="" package
    for package in $required_packages; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    local as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            as_root="sudo"
        else
            fail "these packages are missing:$missing
       This user may not install them. Run as root, once: apt-get update && apt-get install -y$missing"
        fi
    fi
    say "Installing$missing"
    # shellcheck disable=SC2086
    $as_root apt-get update -qq || say "apt-get update failed; trying with the package lists that are here."
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
        fail "apt-get could not install$missing"
}

# Where the tests are built, in debug. Not beside the release build: so both can be built at the same time.
tests_build=".build-tests"

# build_tests [DIRECTORY [OPTION…]]: builds all tests.
build_tests() {
    local build="${1:-$tests_build}"
    [ $# -eq 0 ] || shift
    # What another build has already fetched is taken from there.
    if [ ! -d "$build" ] && [ -d .build/repositories ]; then
        mkdir -p "$build"
        cp -a .build/repositories .build/checkouts .build/workspace-state.json "$build"/ || fail "no room for $build"
    fi
    swift build --build-tests --scratch-path "$build" "$@"
}

# Builds the program in release and sets HOLDFAST to it.
build_release() {
    say "Building (release); the first time takes some minutes."
    swift build -c release --product holdfast || fail "the build failed."
    HOLDFAST="$(swift build -c release --show-bin-path)/holdfast"
    export HOLDFAST
}
