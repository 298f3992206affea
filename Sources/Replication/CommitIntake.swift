internal import StoreModel

/// Requests on their way to the pipeline.
///
/// Exactly one caller is told to fetch them, namely the one whose request makes them as many as are wanted; everybody
/// else leaves. While nobody is told (`wantedCount` is `.max`) somebody is on the way, or the end of a batch or of an
/// application to the index fetches them.
struct CommitIntake {
    private var requests: [CommitPipeline.Request] = []
    private var wantedCount = 1
    /// Set when the pipeline has stopped.
    private var refusal: StoreError?

    mutating func take(_ request: CommitPipeline.Request) -> (refusal: StoreError?, mustFetch: Bool) {
        if let refusal { return (refusal, false) }
        requests.append(request)
        guard requests.count >= wantedCount else { return (nil, false) }
        wantedCount = .max
        return (nil, true)
    }

    mutating func takeAll() -> [CommitPipeline.Request] {
        defer { requests.removeAll(keepingCapacity: true) }
        return requests
    }

    /// - Returns: false when as many are there already.
    mutating func rest(until count: Int) -> Bool {
        guard requests.count < count else { return false }
        wantedCount = count
        return true
    }

    mutating func close(_ reason: StoreError) { refusal = reason }
}
