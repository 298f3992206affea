/// Headers that only our own servers and clients know.
package enum HoldfastHeader {
    /// In an answer to HEAD: the version isn't yet in a mirror that its bucket's writes wait for; how many seconds they do, 0:
    /// waiting would not help now. In a request for one, with any value: whoever asks waits for it.
    package static let mirrorWait = "x-holdfast-mirror-wait"
    /// In an answer: the SHA-256 of the whole object, hexadecimal.
    package static let sha256 = "x-holdfast-sha256"
}
