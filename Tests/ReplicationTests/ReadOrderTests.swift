import BlobVolume
import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// Which copy a read begins with.
@Suite(.serialized, .timeLimit(.minutes(3))) struct ReadOrderTests {
    private typealias Holder = (replica: any Replica, mean: Double)

    private func order(_ means: [Double], turn: Int, isTrial: Bool) async throws -> [Int] {
        let engine = try await EngineFixture().open()
        let replicator = engine.replicator
        var holders: [Holder] = []
        for (index, mean) in means.enumerated() {
            holders.append((try #require(replicator.volumes.usableReplica(index)), mean))
        }
        let order = replicator.ordered(holders, Replicator.ReadTurn(first: turn, isTrial: isTrial))
            .compactMap { replicator.volumes.index(of: $0.id) }
        await engine.close()
        return order
    }

    @Test func `Equally fast volumes take turns`() async throws {
        #expect(try await order([1e6, 1.5e6, 1.2e6], turn: 0, isTrial: false) == [0, 1, 2])
        #expect(try await order([1e6, 1.5e6, 1.2e6], turn: 4, isTrial: true) == [1, 2, 0])
    }

    @Test func `A slow volume is asked last, and first when it is tried`() async throws {
        #expect(try await order([9e6, 1e6, 1e6], turn: 0, isTrial: false) == [1, 2, 0])
        #expect(try await order([9e6, 1e6, 1e6], turn: 0, isTrial: true) == [0, 1, 2])
        // Each of them in its turn.
        #expect(try await order([9e6, 7e6, 1e6], turn: 0, isTrial: true) == [1, 2, 0])
        #expect(try await order([9e6, 7e6, 1e6], turn: 1, isTrial: true) == [0, 2, 1])
    }

    /// Probes say when a suspect volume is well again; clients do not wait for that.
    @Test func `A suspect volume is not tried`() async throws {
        #expect(try await order([1e12 + 1, 1e6, 1e6], turn: 0, isTrial: true) == [1, 2, 0])
        #expect(try await order([.greatestFiniteMagnitude, 9e6, 1e6], turn: 0, isTrial: true) == [1, 2, 0])
    }
}
