internal import CCurl
internal import CPosix
internal import Glibc
internal import Synchronization

/// The one thread that owns a multi handle, its connections and all transfers on it.
///
/// 1. Only this thread calls libcurl, `curl_multi_wakeup` excepted, which any thread may call while the handle lives;
///    the lock around it and around the handle's end keeps it so.
/// https://curl.se/libcurl/c/curl_multi_wakeup.html
/// 2. A transfer is in `waiting`, or in `active` and in the multi handle, or over; its exchange gets exactly one
///    outcome. A transfer's object outlives its time in the multi handle.
/// 3. A host whose transfers hang holds at most `transferCountPerHostMax` of the places; the others' go on.
final class TransferLoop: Sendable {
    enum Command: Sendable {
        case start(TransferStart)
        /// The task sent, took or finished something that the transfer was waiting for.
        case resume(Exchange)
        case abandon(Exchange, TransportError)
    }

    private struct Inbox {
        var commands: [Command] = []
        var waitingCount = 0
        var isStopped = false
        var hasEnded = false
    }

    /// The address of the multi handle, for wake-ups.
    private struct Handle: @unchecked Sendable {
        // Other threads use it for curl_multi_wakeup only, under the inbox's lock, and only before `hasEnded`.
        let multi: UnsafeMutableRawPointer
    }

    private let handle: Handle
    private let configuration: TransportConfiguration
    private let inbox = Mutex(Inbox())

    init(_ configuration: TransportConfiguration) throws(TransportError) {
        guard Self.isLibraryReady, let multi = curl_multi_init() else {
            throw TransportError(.internalFault, "libcurl could not be started.")
        }
        handle = Handle(multi: multi)
        self.configuration = configuration
        let count = configuration.transferCountMax
        _ = holdfast_curl_multi_set_long(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, count)
        _ = holdfast_curl_multi_set_long(
            multi,
            CURLMOPT_MAX_HOST_CONNECTIONS,
            configuration.transferCountPerHostMax
        )
        _ = holdfast_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, count)
    }

    /// Once for the process, before anything else of libcurl.
    private static let isLibraryReady = holdfast_curl_start() == CURLE_OK

    /// Starts the thread, which keeps the loop until it was stopped.
    func launch() throws(TransportError) {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(self)
        let status = pthread_create(&thread, nil, threadBody, argument.toOpaque())
        guard status == 0 else {
            argument.release()
            curl_multi_cleanup(handle.multi)
            throw TransportError(.internalFault, "The system refused a thread (errno \(status)).")
        }
        pthread_detach(thread)
    }

    // MARK: Any thread

    func submit(_ start: TransferStart) throws(TransportError) {
        let refusal = inbox.withLock { inbox -> TransportError? in
            guard !inbox.isStopped else {
                return TransportError(.shutDown, "The transport has been shut down.")
            }
            guard inbox.waitingCount < configuration.waitingCountMax else {
                return TransportError(
                    .overloaded,
                    "\(inbox.waitingCount) transfers wait for a connection already."
                )
            }
            inbox.waitingCount += 1
            post(.start(start), &inbox)
            return nil
        }
        if let refusal { throw refusal }
    }

    func resume(_ exchange: Exchange) { inbox.withLock { post(.resume(exchange), &$0) } }

    func abandon(_ exchange: Exchange, _ error: TransportError) {
        // The task hears of it at once, whatever the loop is doing.
        exchange.end(.failure(error))
        inbox.withLock { post(.abandon(exchange, error), &$0) }
    }

    func stop() {
        inbox.withLock { inbox in
            guard !inbox.isStopped else { return }
            inbox.isStopped = true
            if !inbox.hasEnded { _ = curl_multi_wakeup(handle.multi) }
        }
    }

    private func post(_ command: Command, _ inbox: inout Inbox) {
        guard !inbox.hasEnded else { return }
        inbox.commands.append(command)
        // The first one wakes the loop; it takes all that came until then.
        if inbox.commands.count == 1 { _ = curl_multi_wakeup(handle.multi) }
    }

    // MARK: The loop's thread

    fileprivate func run() {
        var transfers = TransferTable(multi: handle.multi, configuration: configuration)
        while true {
            let (commands, isStopped) = inbox.withLock { inbox in
                defer { inbox.commands.removeAll(keepingCapacity: true) }
                return (inbox.commands, inbox.isStopped)
            }
            for command in commands { transfers.take(command) }
            if isStopped { break }
            let startedCount = transfers.turn()
            if startedCount > 0 { inbox.withLock { $0.waitingCount -= startedCount } }
            _ = curl_multi_poll(handle.multi, nil, 0, transfers.pollMilliseconds, nil)
        }
        let late = inbox.withLock { inbox in
            inbox.hasEnded = true
            defer { inbox.commands = [] }
            return inbox.commands
        }
        for command in late { transfers.take(command) }
        transfers.endAll(TransportError(.shutDown, "The transport has been shut down."))
        curl_multi_cleanup(handle.multi)
    }
}

private let threadBody: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { argument in
    guard let argument else { return nil }
    let loop = Unmanaged<TransferLoop>.fromOpaque(argument).takeRetainedValue()
    holdfast_name_thread("curl")
    // Signals are for the other threads; a connection that was closed by the other side is an error code here.
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, nil)
    loop.run()
    return nil
}

/// The transfers of one loop. Used by its thread only.
private struct TransferTable {
    let multi: UnsafeMutableRawPointer
    let configuration: TransportConfiguration
    private var waiting: [TransferStart] = []
    private var active: [ObjectIdentifier: Transfer] = [:]
    private var byHandle: [UnsafeMutableRawPointer: ObjectIdentifier] = [:]
    private var countByOrigin: [HTTPOrigin: Int] = [:]
    /// Left the queue since the last turn.
    private var leftCount = 0
    private var lastLook = ContinuousClock.now

    init(multi: UnsafeMutableRawPointer, configuration: TransportConfiguration) {
        self.multi = multi
        self.configuration = configuration
    }

    /// Limits are looked at that often; libcurl's own timers end the wait earlier.
    private static let lookInterval: Duration = .milliseconds(100)

    var pollMilliseconds: Int32 { active.isEmpty && waiting.isEmpty ? 10_000 : 100 }

    mutating func take(_ command: TransferLoop.Command) {
        switch command {
        case .start(let start): waiting.append(start)
        case .resume(let exchange):
            active[ObjectIdentifier(exchange)]?.resume()
        case .abandon(let exchange, let error):
            if let transfer = active[ObjectIdentifier(exchange)] {
                end(transfer, .failure(error))
            } else if let index = waiting.firstIndex(where: { $0.exchange === exchange }) {
                waiting.remove(at: index)
                leftCount += 1
            }
            exchange.end(.failure(error))
        }
    }

    /// - Returns: how many transfers left the queue.
    mutating func turn() -> Int {
        begin()
        var runningCount: Int32 = 0
        _ = curl_multi_perform(multi, &runningCount)
        drain()
        let now = ContinuousClock.now
        if now - lastLook >= Self.lookInterval {
            lastLook = now
            expire(at: now)
        }
        for transfer in active.values where transfer.isDirty {
            transfer.isDirty = false
            transfer.exchange.signal()
        }
        // What ended made room; the next ones begin with the next turn, which comes at once.
        if canBegin { begin() }
        defer { leftCount = 0 }
        return leftCount
    }

    private func hasRoom(_ origin: HTTPOrigin) -> Bool {
        countByOrigin[origin, default: 0] < configuration.transferCountPerHostMax
    }

    private var canBegin: Bool {
        active.count < configuration.transferCountMax && waiting.contains { hasRoom($0.request.origin) }
    }

    private mutating func begin() {
        var index = 0
        while index < waiting.count, active.count < configuration.transferCountMax {
            guard hasRoom(waiting[index].request.origin) else {
                index += 1
                continue
            }
            let start = waiting.remove(at: index)
            leftCount += 1
            begin(start)
        }
    }

    private mutating func begin(_ start: TransferStart) {
        guard !start.exchange.hasEnded else { return }
        do throws(TransportError) {
            let transfer = try Transfer(start, configuration: configuration)
            let code = curl_multi_add_handle(multi, transfer.easy)
            guard code == CURLM_OK else {
                throw TransportError(
                    .internalFault,
                    "libcurl refused a transfer: \(String(cString: curl_multi_strerror(code)))."
                )
            }
            let id = ObjectIdentifier(start.exchange)
            active[id] = transfer
            byHandle[transfer.easy] = id
            countByOrigin[start.request.origin, default: 0] += 1
        } catch {
            start.exchange.end(.failure(error))
        }
    }

    private mutating func drain() {
        var rest: Int32 = 0
        while let message = curl_multi_info_read(multi, &rest) {
            // The message is gone with the handle's removal: what it says is taken first.
            guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle,
                let id = byHandle[easy], let transfer = active[id]
            else { continue }
            end(transfer, transfer.outcome(holdfast_curl_result(message)))
        }
    }

    private mutating func expire(at now: ContinuousClock.Instant) {
        for transfer in Array(active.values) {
            if let error = transfer.expired(at: now) { end(transfer, .failure(error)) }
        }
        for start in waiting {
            guard let total = (start.request.timeouts ?? configuration.timeouts).total,
                now - start.submitted >= total
            else { continue }
            let error = TransportError(
                .timedOut,
                "The transfer with \(start.request.origin) waited longer than \(total) for a connection."
            )
            start.exchange.end(.failure(error))
        }
        let count = waiting.count
        waiting.removeAll { $0.exchange.hasEnded }
        leftCount += count - waiting.count
    }

    private mutating func end(_ transfer: Transfer, _ outcome: Result<TransferStatistics, TransportError>) {
        _ = curl_multi_remove_handle(multi, transfer.easy)
        byHandle[transfer.easy] = nil
        let origin = transfer.request.origin
        let count = countByOrigin[origin, default: 1] - 1
        countByOrigin[origin] = count > 0 ? count : nil
        active[ObjectIdentifier(transfer.exchange)] = nil
        transfer.exchange.end(outcome)
    }

    mutating func endAll(_ error: TransportError) {
        for transfer in Array(active.values) { end(transfer, .failure(error)) }
        for start in waiting { start.exchange.end(.failure(error)) }
        waiting = []
    }
}
