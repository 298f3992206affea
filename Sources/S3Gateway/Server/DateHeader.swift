internal import NIOCore
internal import S3Protocol
internal import StoreModel
internal import Synchronization

/// The Date header's value, made once a second. https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1
enum DateHeader {
    private struct Current {
        var second: Int64 = .min
        var text = ""
    }

    private static let clock = SystemClock()
    private static let current = Mutex(Current())

    static func write(to buffer: inout ByteBuffer) {
        let now = clock.now()
        let second = now.milliseconds / 1000
        let text = current.withLock { current in
            if current.second != second { current = Current(second: second, text: HTTPDate.format(now)) }
            return current.text
        }
        buffer.writeString(text)
    }
}
