import Catalog
import ObjectService
import S3Protocol
import StoreModel
import Testing

@testable import S3Gateway

struct LifecycleHistoryTests {
    @Test func `A version is noncurrent since the next newer one was made, wherever pages end`() throws {
        let rows = try [row("a", 5, at: 50), row("a", 4, at: 40), row("a", 3, at: 30), row("b", 2, at: 20)]
        let facts = read(rows)
        #expect(facts.map { $0.key.bytes } == ["a", "a", "a", "b"].map { [UInt8]($0.utf8) })
        #expect(facts.map { $0.noncurrentSince?.milliseconds } == [nil, 50, 40, nil])
        #expect(facts.map(\.newerNoncurrentCount) == [0, 0, 1, 0])
        #expect(facts.map(\.isAlone) == [false, false, false, true])
    }

    @Test func `A delete marker is alone when nothing is behind it`() throws {
        let facts = read(
            try [
                row("a", 4, at: 40, isMarker: true), row("b", 3, at: 30, isMarker: true), row("b", 2, at: 20),
                row("c", 1, at: 10, isMarker: true),
            ]
        )
        #expect(facts.map(\.isAlone) == [true, false, false, true])
        #expect(facts.map(\.isDeleteMarker) == [true, true, false, true])
    }

    @Test func `Only what rules name is due, in batches of the budget`() throws {
        let rules = try LifecycleConfiguration(
            body: [UInt8](
                """
                <LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status><Filter><Prefix>old/</Prefix></Filter>
                <Expiration><Days>1</Days></Expiration>
                <NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>
                </Rule></LifecycleConfiguration>
                """.utf8
            )
        )
        let now = Timestamp(milliseconds: 1_000_000)
        let evaluation = LifecycleEvaluation(rules, now: now, dayLength: .seconds(1))
        var history = LifecycleHistory()
        var due = DueVersions()
        let rows = try [
            row("new/key", 9, at: 0), row("old/1", 8, at: 10), row("old/1", 7, at: 5),
            row("old/2", 6, at: 999_999),
        ]
        for row in rows {
            if let known = history.push(ListedVersion(row: row, isNewest: true)) {
                due.add(known, evaluation, at: now)
            }
        }
        if let known = history.finish() { due.add(known, evaluation, at: now) }
        let first = due.next(atMost: 1)
        #expect(first?.map(\.action) == [.expire(rule: "r")])
        #expect(first?.first?.target.selector == .newest)
        #expect(first?.first?.target.conditions.ifMatch == .oneOf(["e8"]))
        let second = due.next(atMost: 5)
        #expect(second?.map(\.action) == [.removeNoncurrent(rule: "r")])
        #expect(second?.first?.target.selector == .id(VersionID(sequence: 7, nonce: 0)))
        #expect(due.next(atMost: 5) == nil)
    }

    private func read(_ rows: [VersionRow]) -> [LifecycleVersion] {
        var history = LifecycleHistory()
        var facts: [LifecycleVersion] = []
        for row in rows {
            if let known = history.push(ListedVersion(row: row, isNewest: false)) {
                facts.append(known.facts)
            }
        }
        if let known = history.finish() { facts.append(known.facts) }
        #expect(history.finish() == nil)
        return facts
    }

    private func row(
        _ key: String,
        _ sequence: UInt64,
        at time: Int64,
        isMarker: Bool = false
    ) throws -> VersionRow {
        VersionRow(
            bucket: BucketID(rawValue: 1),
            key: try ObjectKey(bytes: [UInt8](key.utf8)),
            id: VersionID(sequence: sequence, nonce: 0),
            isNull: false,
            kind: isMarker ? .deleteMarker : .object,
            createdAt: Timestamp(milliseconds: time),
            content: ObjectContent(
                size: 1,
                etag: "e\(sequence)",
                checksums: ObjectChecksums(),
                manifest: .inline([])
            ),
            operation: OperationID(high: 0, low: sequence)
        )
    }
}
