internal import Synchronization

/// Marks of rare branches: simulations have to reach each of them over their fixed seeds. In a release build a mark is nothing.
package enum CoverageMark: String, CaseIterable, Sendable {
    case volumeFailed, volumeForgiven, batchWithoutPayloads, quorumLost, commitsRefusedForCopies
    case hedgedRead, readAfterFailure, repaired, volumeFilled, caughtUp
    case snapshotStored, snapshotImported, garbageBuried, garbageSaved
    case logTailCut, unsyncedDiscarded, sharedSync

    #if DEBUG
        private static let counts = Mutex<[CoverageMark: Int]>([:])
        private static let isCounting = Atomic<Bool>(false)
    #endif

    /// Called where the branch is taken.
    @inline(__always)
    package static func reach(_ mark: CoverageMark) {
        #if DEBUG
            guard isCounting.load(ordering: .relaxed) else { return }
            counts.withLock { $0[mark, default: 0] += 1 }
        #endif
    }

    /// Counts from now on what is reached. Nothing in a release build.
    package static func startCounting() {
        #if DEBUG
            counts.withLock { $0 = [:] }
            isCounting.store(true, ordering: .relaxed)
        #endif
    }

    /// How often each mark was reached since counting began.
    package static var reached: [CoverageMark: Int] {
        #if DEBUG
            counts.withLock { $0 }
        #else
            [:]
        #endif
    }
}
