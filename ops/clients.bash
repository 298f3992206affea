# Sourced by ops/test and ops/bench/compare: the S3 clients, each set in an environment of its own. They are kept outside of the
# repository, because they take long to install and every checkout needs the same; removing the directory does no harm.

clients_directory="${HOLDFAST_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/holdfast-clients}"

# install_clients NAME…: makes the environments of Tests/ClientTests/requirements/NAME.txt that are missing or not as pinned.
install_clients() {
    local name list environment stamp wanted=()
    for name in "$@"; do
        list="Tests/ClientTests/requirements/$name.txt"
        stamp="$(sha256sum <"$list") $(python3 -c 'import sys; print(sys.version)')"
        [ "$(cat "$clients_directory/$name/.stamp" 2>/dev/null)" = "$stamp" ] || wanted+=("$name")
    done
    [ "${#wanted[@]}" -gt 0 ] || return 0
    required_packages="python3-venv openssl" install_packages
    say "Installing clients: ${wanted[*]}"
    mkdir -p "$clients_directory"
    local jobs=() job code=0
    for name in "${wanted[@]}"; do
        install_environment "$name" &
        jobs+=("$!")
    done
    for job in "${jobs[@]}"; do wait "$job" || code=1; done
    [ "$code" -eq 0 ] || fail "not all clients could be installed: see above."
}

install_environment() {
    local name="$1" list="Tests/ClientTests/requirements/$1.txt" environment="$clients_directory/$1"
    rm -rf "$environment"
    python3 -m venv "$environment" &&
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
            --requirement "$list" ||
        {
            say "The clients of $list could not be installed."
            return 1
        }
    printf '%s\n' "$(sha256sum <"$list") $(python3 -c 'import sys; print(sys.version)')" >"$environment/.stamp"
}
