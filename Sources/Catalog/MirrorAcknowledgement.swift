package import StoreModel

/// The mirrors that must have a new version of a bucket before its client is told that it is done, and how long the
/// client waits for them. Whatever comes of the wait, the version is in the store, durable and visible, when it begins.
///
/// Stored as the bucket's setting `holdfast-mirror-ack`, little-endian:
///
///     offset  size  field
///          0     1  format, 1
///          1     4  how long, milliseconds
///          5     1  number of mirrors, 1 to 16
///          6     …  their names (text: a length of 4 bytes in front)
package struct MirrorAcknowledgement: Hashable, Sendable {
    package static let timeouts = Duration.milliseconds(100)...Duration.seconds(300)
    package static let timeoutDefault = Duration.seconds(30)
    package static let mirrorCountMax = 16
    private static let format: UInt8 = 1

    /// Names. All of them have to have it, as far as their rules take it.
    package let mirrors: [String]
    package let timeout: Duration

    /// - Throws: `.invalidArgument` for no mirror, too many, or a time beyond its bounds.
    package init(mirrors: [String], timeout: Duration) throws(StoreError) {
        guard (1...Self.mirrorCountMax).contains(mirrors.count), Set(mirrors).count == mirrors.count else {
            throw StoreError(
                .invalidArgument,
                "A bucket waits for 1 to \(Self.mirrorCountMax) mirrors, each named once."
            )
        }
        guard Self.timeouts.contains(timeout) else {
            throw StoreError(.invalidArgument, "A client waits 0.1 to 300 seconds for mirrors.")
        }
        self.mirrors = mirrors
        self.timeout = timeout
    }

    package var body: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(Self.format)
        writer.write(UInt32(timeout / .milliseconds(1)))
        writer.write(UInt8(clamping: mirrors.count))
        for name in mirrors { writer.write(text: name) }
        return writer.bytes
    }

    /// - Throws: `.unsupportedFormat` for a newer format, `.storeDamaged` for what can't be read. A bucket with such a
    ///   setting takes no new versions: nobody knows what it would have to wait for.
    package init(body: [UInt8]) throws(StoreError) {
        var reader = ByteReader(body)
        let format: UInt8
        var names: [String] = []
        let milliseconds: UInt32
        do throws(ByteReader.Failure) {
            format = try reader.read(UInt8.self)
            guard format == Self.format else {
                throw ByteReader.Failure("it has format \(format); this program reads \(Self.format)")
            }
            milliseconds = try reader.read(UInt32.self)
            let count = try reader.read(UInt8.self)
            for _ in 0..<count { names.append(try reader.readText()) }
            try reader.finish()
        } catch {
            let isNewer = body.first.map { $0 > Self.format } ?? false
            throw StoreError(
                isNewer ? .unsupportedFormat : .storeDamaged,
                "The mirrors that a bucket waits for can't be read: \(error)."
            )
        }
        do throws(StoreError) {
            try self.init(mirrors: names, timeout: .milliseconds(Int64(milliseconds)))
        } catch {
            throw StoreError(
                .storeDamaged,
                "The mirrors that a bucket waits for can't be read: \(error.message)"
            )
        }
    }
}

/// What there is to be said of a version and the mirrors that its client waits for.
package enum MirrorOutlook: Hashable, Sendable {
    /// Every one of them that takes it has it.
    case there
    case waiting(mirror: String)
    /// It won't be there soon, whoever waits.
    case blocked(mirror: String, reason: String)
}
