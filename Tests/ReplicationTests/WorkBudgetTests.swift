import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// What background work may take of the disks, in a time that passes when somebody waits.
@Suite struct WorkBudgetTests {
    private func budget(
        bytes: Double,
        operations: Double,
        isUnlimitedWhenIdle: Bool = false,
        load: ClientLoad = ClientLoad(),
        clock: any StoreClock
    ) -> WorkBudget {
        WorkBudget(
            WorkBudget.Rates(
                bytesPerSecond: bytes,
                operationsPerSecond: operations,
                isUnlimitedWhenIdle: isUnlimitedWhenIdle
            ),
            load: load,
            clock: clock
        )
    }

    private func seconds(_ clock: any StoreClock) -> Double { Double(clock.monotonicNanoseconds()) / 1e9 }

    /// Both rates hold over any length of time, but for a quarter of a second that is there at the beginning.
    @Test(arguments: [
        (bytes: 1_000_000.0, operations: 1e9, wanted: 19.75), (1e12, 100, 9.75), (1_000_000, 100, 19.75),
    ])
    func theStricterOfBothRatesHolds(bytes: Double, operations: Double, wanted: Double) async throws {
        let clock = HurriedClock()
        let budget = budget(bytes: bytes, operations: operations, clock: clock)
        // 20 MB in 1,000 calls, in pieces of any size.
        for index in 0..<100 {
            try await budget.spend(
                bytes: index % 2 == 0 ? 50_000 : 350_000,
                operations: index % 2 == 0 ? 15 : 5
            )
        }
        #expect(abs(seconds(clock) - wanted) < 0.001, "\(seconds(clock))")
    }

    @Test func whatWasNotTakenIsNotSavedUp() async throws {
        let clock = HurriedClock()
        let budget = budget(bytes: 1_000_000, operations: 1000, clock: clock)
        try await clock.sleep(for: .seconds(3600))
        try await budget.spend(bytes: 1_250_000, operations: 1)
        #expect(abs(seconds(clock) - 3601) < 0.001)
    }

    @Test func aNewRateIsInForceAtOnce() async throws {
        let clock = HurriedClock()
        let budget = budget(bytes: 1000, operations: 1000, clock: clock)
        budget.set(.init(bytesPerSecond: 1_000_000, operationsPerSecond: 1000, isUnlimitedWhenIdle: false))
        try await budget.spend(bytes: 1_250_000, operations: 1)
        #expect(abs(seconds(clock) - 1) < 0.001)
    }

    /// At full speed alone; within the budget while a client asks; at full speed again as soon as it has gone, in the
    /// middle of a pause.
    @Test func itYieldsToClientsOnly() async throws {
        let clock = VirtualClock()
        let load = ClientLoad()
        let budget = budget(
            bytes: 1_000_000,
            operations: 1000,
            isUnlimitedWhenIdle: true,
            load: load,
            clock: clock
        )
        try await budget.spend(bytes: 1 << 40, operations: 1 << 20)
        let (isOver, end) = AsyncStream<Void>.makeStream()
        let client = Task { await load.run { for await _ in isOver {} } }
        while !load.isBusy { await Task.yield() }
        let work = Task { try await budget.spend(bytes: 30_250_000, operations: 1) }
        await clock.sleepers(atLeast: 1)
        for _ in 0..<10 {
            clock.advance(by: .milliseconds(50))
            await clock.sleepers(atLeast: 1)
        }
        end.finish()
        await client.value
        // For a moment after its answer a client is likely to ask again.
        while load.isBusy { await Task.yield() }
        clock.advance(by: .milliseconds(50))
        try await work.value
        #expect(seconds(clock) < 1)
    }

    @Test func aDebtIsPaidWithinAMinute() {
        var bucket = TokenBucket(ratePerSecond: 1000, now: 0)
        let pause = bucket.take(1e9, now: 0)
        #expect(pause == .seconds(60))
        var other = TokenBucket(ratePerSecond: 1000, now: 0)
        // A clock that goes back gives nothing.
        let times: [(amount: Double, now: UInt64)] = [(250, 0), (500, 0), (0, 0), (0, 500_000_000), (0, 0)]
        let pauses = times.map { other.take($0.amount, now: $0.now) }
        #expect(pauses == [.zero, .milliseconds(500), .milliseconds(500), .zero, .zero])
    }
}
