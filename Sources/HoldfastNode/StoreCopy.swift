internal import BlobVolume
internal import ContentHashing
internal import Foundation
internal import StoreModel

// `store.json.copy` in each volume: what is needed to make the store's directory again when only the volumes are left.
//
//   line 1      {"format": {"major": 1, "minor": 0}, "storeDirectory": absolute path, what relative paths begin with}
//   then        store.json as it was, StoreConfiguration.swift; its "generation" tells which of several copies is newest
//   last line   sha256 and, after a space, 64 hexadecimal digits: of every byte before this line
//
// Written whole or not at all (`Disk.replaceFile`), only into a directory whose identity names this store and this volume,
// and after store.json: a copy may be older than store.json, never newer. Opening a store, and each change of its volumes,
// brings it to every volume that is there. A copy that is missing, damaged or older is written anew.

/// A volume's copy of `store.json`.
struct StoreCopy: Sendable {
    static let fileName = "store.json.copy"
    private static let formatMajor = 1
    private static let byteCountMax = StoreConfiguration.byteCountMax + 64 << 10
    private static let checksumByteCount = 7 + 64 + 1

    let storeDirectory: String
    let configuration: StoreConfiguration

    private struct Head: Codable {
        struct Format: Codable {
            var major: Int
            var minor: Int
        }
        var format: Format
        var storeDirectory: String
    }

    private struct FormatOnly: Decodable {
        var format: Head.Format
    }

    init(storeDirectory: String, configuration: StoreConfiguration) {
        self.storeDirectory = storeDirectory
        self.configuration = configuration
    }

    /// - Throws: `StoreError` with `.unsupportedFormat` for another major format, `.storeDamaged` for anything that is not
    ///   a whole copy.
    init(decoding bytes: [UInt8], path: String) throws(StoreError) {
        let covered = bytes.dropLast(Self.checksumByteCount)
        guard bytes.suffix(Self.checksumByteCount).elementsEqual(Self.checksumLine(of: covered)),
            let headEnd = covered.firstIndex(of: UInt8(ascii: "\n"))
        else { throw StoreError(.storeDamaged, "\(path) is not whole: its checksum does not hold.") }
        let head: Head
        do {
            let line = Data(covered[..<headEnd])
            let major = try JSONDecoder().decode(FormatOnly.self, from: line).format.major
            guard major == Self.formatMajor else {
                throw StoreError(
                    .unsupportedFormat,
                    "\(path) has format \(major); this program reads \(Self.formatMajor).x.",
                    advice: "Use the version of the program that wrote it, or a newer one."
                )
            }
            head = try JSONDecoder().decode(Head.self, from: line)
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.storeDamaged, "\(path) can't be read as a copy of store.json.", cause: error)
        }
        storeDirectory = head.storeDirectory
        configuration = try StoreConfiguration(json: [UInt8](covered[(headEnd + 1)...]), path: path)
    }

    func encoded() throws(StoreError) -> [UInt8] {
        let head = Head(format: .init(major: Self.formatMajor, minor: 0), storeDirectory: storeDirectory)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var bytes: [UInt8]
        do {
            bytes = [UInt8](try encoder.encode(head)) + [UInt8(ascii: "\n")]
        } catch {
            throw StoreError(.internalFault, "The copy of store.json could not be encoded.", cause: error)
        }
        bytes += try configuration.json()
        return bytes + Self.checksumLine(of: bytes[...])
    }

    private static func checksumLine(of bytes: ArraySlice<UInt8>) -> [UInt8] {
        let digest = bytes.withUnsafeBytes { SHA256Hasher.hash($0) }
        return [UInt8]("sha256 \(digest.hex)\n".utf8)
    }

    // MARK: Disk

    /// Writes it durably.
    func write(to disk: any Disk) throws(StoreError) {
        let bytes = try encoded()
        do throws(DiskError) {
            try disk.replaceFile(Self.fileName, with: bytes)
        } catch {
            throw StoreError(
                error.code == .full ? .storeFull : .inputOutput,
                "The copy of store.json in \(quoted(disk.label)) can't be written.",
                cause: error
            )
        }
    }

    /// - Returns: nil when there is none.
    /// - Throws: as `init(decoding:path:)`, and `.inputOutput`.
    static func read(from disk: any Disk) throws(StoreError) -> StoreCopy? {
        let bytes: [UInt8]
        do throws(DiskError) {
            bytes = try disk.readFile(fileName, byteCountMax: byteCountMax)
        } catch {
            if error.code == .notFound { return nil }
            throw StoreError(
                .inputOutput,
                "The copy of store.json in \(quoted(disk.label)) can't be read.",
                cause: error
            )
        }
        return try StoreCopy(decoding: bytes, path: disk.label + "/" + fileName)
    }
}
