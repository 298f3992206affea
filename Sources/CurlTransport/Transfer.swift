internal import CCurl

/// One libcurl handle at work. Made, used and freed by the loop's thread only.
///
/// 1. libcurl's callbacks get this object's address unretained. The loop holds the object from before the handle is
///    given to the multi handle until after it was taken from it and freed: no callback runs without it.
/// 2. No callback throws or waits; what goes wrong is left in `failure`, and libcurl is told to stop.
final class Transfer {
    let exchange: Exchange
    let request: HTTPClientRequest
    let timeouts: TransportTimeouts
    let submitted: ContinuousClock.Instant
    let started = ContinuousClock.now
    let easy: UnsafeMutableRawPointer
    private let configuration: TransportConfiguration
    private let bodyLength: UInt64?
    private var list: UnsafeMutablePointer<curl_slist>?
    private var knownAddresses: UnsafeMutablePointer<curl_slist>?
    /// The last address that may not be connected to, and whether any may.
    private var refusedAddress: NetworkAddress?
    private var hasRefusedAddress = false
    private var hasTriedAddress = false
    /// libcurl writes its message here for as long as the handle lives.
    private let message = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))

    // The answer's head, while it comes in.
    private var status = 0
    private var fields: [HTTPField] = []
    private var headSize = 0
    private var isHeadComplete = false

    private(set) var failure: TransportError?
    /// Set when the request is about to be sent.
    private(set) var isConnected = false
    private(set) var byteCountMoved: UInt64 = 0
    private(set) var byteCountSent: UInt64 = 0
    private(set) var lastProgress = ContinuousClock.now
    /// The window in which the speed is measured.
    private var windowStart = ContinuousClock.now
    private var windowByteCount: UInt64 = 0
    private(set) var isSendPaused = false
    private(set) var isReceivePaused = false
    /// The task has something to hear at the end of this turn.
    var isDirty = false

    init(_ start: TransferStart, configuration: TransportConfiguration) throws(TransportError) {
        guard let easy = curl_easy_init() else {
            throw TransportError(.internalFault, "libcurl has no memory for a transfer.")
        }
        self.easy = easy
        exchange = start.exchange
        request = start.request
        submitted = start.submitted
        bodyLength = start.bodyLength
        self.configuration = configuration
        timeouts = start.request.timeouts ?? configuration.timeouts
        message.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
        try setUp()
    }

    deinit {
        curl_easy_cleanup(easy)
        curl_slist_free_all(list)
        curl_slist_free_all(knownAddresses)
        message.deallocate()
    }

    // MARK: Options

    private func setUp() throws(TransportError) {
        try setUpNetwork()
        try setUpSecurity()
        try setUpRequest()
        let address = Unmanaged.passUnretained(self).toOpaque()
        try check(holdfast_curl_set_pointer(easy, CURLOPT_WRITEDATA, address))
        try check(holdfast_curl_set_transfer(easy, CURLOPT_WRITEFUNCTION, onBody))
        try check(holdfast_curl_set_pointer(easy, CURLOPT_HEADERDATA, address))
        try check(holdfast_curl_set_transfer(easy, CURLOPT_HEADERFUNCTION, onHeader))
        try check(holdfast_curl_set_pointer(easy, CURLOPT_READDATA, address))
        try check(holdfast_curl_set_transfer(easy, CURLOPT_READFUNCTION, onRead))
        try check(holdfast_curl_set_pointer(easy, CURLOPT_SEEKDATA, address))
        try check(holdfast_curl_set_seek(easy, onSeek))
        try check(holdfast_curl_set_pointer(easy, CURLOPT_PREREQDATA, address))
        try check(holdfast_curl_set_before_request(easy, onConnected))
        guard mayBeRefused else { return }
        try check(holdfast_curl_set_pointer(easy, CURLOPT_OPENSOCKETDATA, address))
        try check(holdfast_curl_set_open_socket(easy, onOpenSocket))
    }

    private var mayBeRefused: Bool {
        request.addresses != .everything && (configuration.proxy ?? "").isEmpty
    }

    private func setUpNetwork() throws(TransportError) {
        try check(holdfast_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, message))
        try set(CURLOPT_NOSIGNAL, 1)
        // A handle whose name look-up hangs is given up without waiting for the look-up's thread.
        try set(CURLOPT_QUICK_EXIT, 1)
        try set(CURLOPT_PROTOCOLS_STR, "http,https")
        try set(CURLOPT_FOLLOWLOCATION, 0)
        // Empty, not absent: an absent one is taken from the environment.
        try set(CURLOPT_PROXY, configuration.proxy ?? "")
        try set(CURLOPT_NOPROXY, "")
        try set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        try set(CURLOPT_TCP_KEEPALIVE, 1)
        try set(CURLOPT_BUFFERSIZE, 256 << 10)
        try set(CURLOPT_UPLOAD_BUFFERSIZE, 256 << 10)
        try set(CURLOPT_CONNECTTIMEOUT_MS, max(1, timeouts.connect.wholeMilliseconds))
        try set(CURLOPT_EXPECT_100_TIMEOUT_MS, max(1, configuration.expectContinueWait.wholeMilliseconds))
        for entry in configuration.knownAddresses {
            guard let longer = curl_slist_append(knownAddresses, entry) else {
                throw TransportError(.internalFault, "libcurl has no memory for the names of a transfer.")
            }
            knownAddresses = longer
        }
        if knownAddresses != nil {
            try check(holdfast_curl_set_list(easy, CURLOPT_RESOLVE, knownAddresses))
        }
        switch configuration.versions {
        case .http1: try set(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
        case .negotiated: try set(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_2TLS))
        }
    }

    private func setUpSecurity() throws(TransportError) {
        try set(CURLOPT_SSL_VERIFYPEER, 1)
        try set(CURLOPT_SSL_VERIFYHOST, 2)
        try set(CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
        guard let file = configuration.authorityFile else { return }
        try set(CURLOPT_CAINFO, file)
        // Only the given authorities: the system's directory of them goes.
        try check(holdfast_curl_set_text(easy, CURLOPT_CAPATH, nil))
    }

    private func setUpRequest() throws(TransportError) {
        try set(CURLOPT_URL, request.origin.description + request.target)
        // Keys may hold `..` and `//`: the path is sent as it is signed.
        try set(CURLOPT_PATH_AS_IS, 1)
        try set(CURLOPT_DISALLOW_USERNAME_IN_URL, 1)
        try set(CURLOPT_USERAGENT, configuration.userAgent)
        try set(CURLOPT_HTTP_CONTENT_DECODING, 0)
        if request.method == "HEAD" {
            try set(CURLOPT_NOBODY, 1)
        } else if let bodyLength {
            guard let length = curl_off_t(exactly: bodyLength) else {
                throw TransportError(.invalidRequest, "The body of a request is too long.")
            }
            try set(CURLOPT_UPLOAD, 1)
            try check(holdfast_curl_set_offset(easy, CURLOPT_INFILESIZE_LARGE, length))
            try set(CURLOPT_CUSTOMREQUEST, request.method)
        } else {
            try set(CURLOPT_HTTPGET, 1)
            try set(CURLOPT_CUSTOMREQUEST, request.method)
        }
        for field in request.fields where !Self.ownFields.contains(field.name.lowercased()) {
            // A header without a value is written with a semicolon.
            try append(field.value.isEmpty ? field.name + ";" : field.name + ": " + field.value)
        }
        let asksFirst = bodyLength.map { $0 >= configuration.expectContinueLength } ?? false
        try append(asksFirst ? "Expect: 100-continue" : "Expect:")
        try check(holdfast_curl_set_list(easy, CURLOPT_HTTPHEADER, list))
    }

    /// What the transport decides: two lengths of one body would be two requests to somebody.
    private static let ownFields: Set<String> = [
        "content-length", "transfer-encoding", "expect", "connection", "upgrade", "te",
    ]

    private func append(_ line: String) throws(TransportError) {
        guard let longer = curl_slist_append(list, line) else {
            throw TransportError(.internalFault, "libcurl has no memory for the headers of a transfer.")
        }
        list = longer
    }

    private func set(_ option: CURLoption, _ value: Int) throws(TransportError) {
        try check(holdfast_curl_set_long(easy, option, value))
    }

    private func set(_ option: CURLoption, _ value: String) throws(TransportError) {
        try check(holdfast_curl_set_text(easy, option, value))
    }

    private func check(_ code: CURLcode) throws(TransportError) {
        guard code == CURLE_OK else {
            throw TransportError(
                .internalFault,
                "libcurl refused an option of a transfer: \(String(cString: curl_easy_strerror(code)))."
            )
        }
    }

    // MARK: Callbacks

    fileprivate func read(_ room: UnsafeMutableRawBufferPointer) -> Int {
        isDirty = true
        switch exchange.read(into: room) {
        case .bytes(let count):
            byteCountSent += UInt64(count)
            move(count)
            return count
        case .end: return 0
        case .pause:
            isSendPaused = true
            return Int(CURL_READFUNC_PAUSE)
        }
    }

    fileprivate func seek(to offset: curl_off_t, origin: Int32) -> Int32 {
        guard offset == 0, origin == SEEK_SET, exchange.rewind() else { return CURL_SEEKFUNC_CANTSEEK }
        byteCountSent = 0
        return CURL_SEEKFUNC_OK
    }

    fileprivate func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
        isDirty = true
        guard exchange.receive(bytes) else {
            isReceivePaused = true
            return Int(CURL_WRITEFUNC_PAUSE)
        }
        move(bytes.count)
        return bytes.count
    }

    fileprivate func receiveHeader(_ bytes: UnsafeRawBufferPointer) -> Int {
        move(bytes.count)
        // Trailers come here too; nothing is made of them, but they are counted.
        headSize += bytes.count
        guard headSize <= configuration.headSizeMax, fields.count < configuration.headFieldCountMax else {
            failure = TransportError(
                .protocolViolation,
                "The head of the answer is larger than \(configuration.headSizeMax) bytes or "
                    + "\(configuration.headFieldCountMax) fields.",
                requestMayHaveArrived: true
            )
            return -1
        }
        if !isHeadComplete { take(line: bytes) }
        return bytes.count
    }

    private func take(line bytes: UnsafeRawBufferPointer) {
        var line = bytes[...]
        while let last = line.last, last == 0x0A || last == 0x0D { line = line.dropLast() }
        if line.starts(with: "HTTP/".utf8) {
            // Each answer begins anew; those before the final one (100, 103) are dropped.
            fields = []
            let word = line.drop { $0 != 0x20 }.dropFirst().prefix(3)
            status = Int(String(decoding: word, as: UTF8.self)) ?? 0
        } else if line.isEmpty {
            guard status >= 200 else { return }
            isHeadComplete = true
            isDirty = true
            exchange.take(HTTPResponseHead(status: status, fields: fields))
        } else if let colon = line.firstIndex(of: UInt8(ascii: ":")) {
            let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
            var value = line[(colon + 1)...]
            while let first = value.first, first == 0x20 || first == 0x09 { value = value.dropFirst() }
            while let last = value.last, last == 0x20 || last == 0x09 { value = value.dropLast() }
            fields.append(HTTPField(name, String(decoding: value, as: UTF8.self)))
        }
    }

    /// Asked for each address before the first packet goes there.
    fileprivate func mayConnect(to address: NetworkAddress?) -> Bool {
        guard let address, request.addresses.allows(address) else {
            refusedAddress = address
            hasRefusedAddress = true
            return false
        }
        hasTriedAddress = true
        return true
    }

    /// A kept connection may be one that a request with another rule has made.
    /// - Returns: false when the request must not be sent.
    fileprivate func connected(to address: String?) -> Bool {
        if mayBeRefused {
            let known = address.flatMap { NetworkAddress($0) }
            guard mayConnect(to: known) else {
                failure = refusal
                return false
            }
        }
        isConnected = true
        lastProgress = .now
        restartWindow(at: lastProgress)
        return true
    }

    private var refusal: TransportError {
        let place = refusedAddress.map { "\($0)" } ?? "an address of an unknown kind"
        return TransportError(
            .addressRefused,
            "\(request.origin) leads to \(place), where requests to it may not go."
        )
    }

    private func move(_ count: Int) {
        byteCountMoved += UInt64(count)
        lastProgress = .now
    }

    // MARK: The loop's calls

    /// Lets go on what the task made possible. libcurl may call back from here.
    func resume() {
        let (send, receive) = exchange.resumable()
        guard send || receive else { return }
        if send { isSendPaused = false }
        if receive { isReceivePaused = false }
        let now = ContinuousClock.now
        lastProgress = now
        restartWindow(at: now)
        let mask =
            (isSendPaused ? CURLPAUSE_SEND : 0) | (isReceivePaused ? CURLPAUSE_RECV : 0)
        _ = curl_easy_pause(easy, mask)
    }

    private func restartWindow(at now: ContinuousClock.Instant) {
        windowStart = now
        windowByteCount = byteCountMoved
    }

    /// Whether all of the body has been handed to libcurl.
    private var isUploadDone: Bool { byteCountSent >= bodyLength ?? 0 }

    /// The limit that has run out, if one has.
    func expired(at now: ContinuousClock.Instant) -> TransportError? {
        if let total = timeouts.total, now - submitted >= total {
            return TransportError(
                .timedOut,
                "The transfer with \(request.origin) took longer than \(total).",
                requestMayHaveArrived: isConnected
            )
        }
        // Until then libcurl's own limit counts.
        guard isConnected else { return nil }
        if isSendPaused || isReceivePaused {
            restartWindow(at: now)
            return nil
        }
        if isUploadDone, !isHeadComplete {
            guard now - lastProgress >= timeouts.firstByte else { return nil }
            return TransportError(
                .firstByteTimedOut,
                "\(request.origin) did not answer within \(timeouts.firstByte).",
                requestMayHaveArrived: true
            )
        }
        guard now - windowStart >= timeouts.slowness else { return nil }
        let count = byteCountMoved - windowByteCount
        let least = Double(timeouts.bytesPerSecondMin) * timeouts.slowness.seconds
        restartWindow(at: now)
        guard Double(count) < least else { return nil }
        return TransportError(
            .tooSlow,
            "The transfer with \(request.origin) moved \(count) bytes in \(timeouts.slowness).",
            requestMayHaveArrived: true
        )
    }

    func outcome(_ code: CURLcode) -> Result<TransferStatistics, TransportError> {
        if let failure { return .failure(failure) }
        guard code == CURLE_OK else { return .failure(error(code)) }
        guard isHeadComplete else {
            return .failure(
                TransportError(
                    .protocolViolation,
                    "\(request.origin) gave an answer without a head.",
                    requestMayHaveArrived: true
                )
            )
        }
        return .success(statistics)
    }

    private func error(_ code: CURLcode) -> TransportError {
        if hasRefusedAddress, !hasTriedAddress { return refusal }
        let text = String(cString: message)
        let detail = text.isEmpty ? String(cString: curl_easy_strerror(code)) : text
        return TransportError(
            TransportError.Code(code, isConnected: isConnected),
            "\(request.origin): \(detail).",
            requestMayHaveArrived: isConnected
        )
    }

    private var statistics: TransferStatistics {
        var statistics = TransferStatistics()
        statistics.nameLookup = duration(CURLINFO_NAMELOOKUP_TIME_T)
        statistics.connect = duration(CURLINFO_CONNECT_TIME_T)
        statistics.handshake = duration(CURLINFO_APPCONNECT_TIME_T)
        statistics.firstByte = duration(CURLINFO_STARTTRANSFER_TIME_T)
        statistics.total = duration(CURLINFO_TOTAL_TIME_T)
        statistics.bytesSent = UInt64(clamping: holdfast_curl_get_offset(easy, CURLINFO_SIZE_UPLOAD_T))
        statistics.bytesReceived = UInt64(clamping: holdfast_curl_get_offset(easy, CURLINFO_SIZE_DOWNLOAD_T))
        statistics.isReusedConnection = holdfast_curl_get_long(easy, CURLINFO_NUM_CONNECTS) == 0
        switch holdfast_curl_get_long(easy, CURLINFO_HTTP_VERSION) {
        case Int(CURL_HTTP_VERSION_1_0): statistics.version = "1.0"
        case Int(CURL_HTTP_VERSION_1_1): statistics.version = "1.1"
        case Int(CURL_HTTP_VERSION_2_0): statistics.version = "2"
        default: statistics.version = ""
        }
        statistics.queueing = started - submitted
        return statistics
    }

    private func duration(_ info: CURLINFO) -> Duration {
        .microseconds(holdfast_curl_get_offset(easy, info))
    }
}

/// What the loop needs to begin a transfer.
struct TransferStart: Sendable {
    let request: HTTPClientRequest
    let exchange: Exchange
    let bodyLength: UInt64?
    let submitted: ContinuousClock.Instant
}

extension TransportError.Code {
    init(_ code: CURLcode, isConnected: Bool) {
        switch code {
        case CURLE_COULDNT_RESOLVE_HOST: self = .nameNotResolved
        case CURLE_COULDNT_RESOLVE_PROXY, CURLE_PROXY: self = .proxyFailed
        case CURLE_COULDNT_CONNECT: self = .connectFailed
        case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR,
            CURLE_SSL_INVALIDCERTSTATUS, CURLE_SSL_PINNEDPUBKEYNOTMATCH:
            self = .certificateRejected
        case CURLE_SSL_CONNECT_ERROR, CURLE_SSL_CIPHER, CURLE_SSL_ENGINE_INITFAILED: self = .handshakeFailed
        case CURLE_OPERATION_TIMEDOUT: self = isConnected ? .timedOut : .connectTimedOut
        case CURLE_GOT_NOTHING, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_PARTIAL_FILE,
            CURLE_SEND_FAIL_REWIND,
            CURLE_HTTP2_STREAM, CURLE_HTTP2:
            self = .connectionLost
        case CURLE_UNSUPPORTED_PROTOCOL, CURLE_WEIRD_SERVER_REPLY, CURLE_BAD_CONTENT_ENCODING:
            self = .protocolViolation
        case CURLE_URL_MALFORMAT: self = .invalidRequest
        default: self = .internalFault
        }
    }
}

extension Duration {
    var wholeMilliseconds: Int {
        let (seconds, attoseconds) = components
        return Int(clamping: seconds &* 1000 &+ attoseconds / 1_000_000_000_000_000)
    }

    var seconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}

// MARK: C

private func transfer(_ address: UnsafeMutableRawPointer?) -> Transfer? {
    address.map { Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
}

private let onBody: holdfast_curl_transfer = { bytes, size, count, address in
    guard let transfer = transfer(address) else { return 0 }
    return transfer.receive(UnsafeRawBufferPointer(start: bytes, count: size * count))
}

private let onHeader: holdfast_curl_transfer = { bytes, size, count, address in
    guard let transfer = transfer(address) else { return 0 }
    // A count other than the given one ends the transfer.
    return max(0, transfer.receiveHeader(UnsafeRawBufferPointer(start: bytes, count: size * count)))
}

private let onRead: holdfast_curl_transfer = { room, size, count, address in
    guard let transfer = transfer(address) else { return Int(CURL_READFUNC_ABORT) }
    return transfer.read(UnsafeMutableRawBufferPointer(start: room, count: size * count))
}

private let onSeek: curl_seek_callback = { address, offset, origin in
    transfer(address)?.seek(to: offset, origin: origin) ?? CURL_SEEKFUNC_FAIL
}

private let onConnected: curl_prereq_callback = { address, host, _, _, _ in
    let name = host.map { String(cString: $0) }
    return transfer(address)?.connected(to: name) ?? false ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT
}

private let onOpenSocket: curl_opensocket_callback = { address, _, target in
    guard let transfer = transfer(address), let target else { return CURL_SOCKET_BAD }
    var bytes = [UInt8](repeating: 0, count: 16)
    let count = holdfast_curl_address(target, &bytes)
    guard transfer.mayConnect(to: NetworkAddress(bytes: bytes.prefix(count))) else { return CURL_SOCKET_BAD }
    return holdfast_curl_open_socket(target)
}
