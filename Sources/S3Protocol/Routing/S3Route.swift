package import StoreModel

/// Which API a request is for, and on what.
package struct S3Route: Sendable {
    package let operation: S3Operation
    /// Nil only for `listBuckets`, and for a preflight without a bucket.
    package let bucket: BucketName?
    /// There for the APIs of objects and of uploads.
    package let key: ObjectKey?
    package let query: QueryItems

    package init(operation: S3Operation, bucket: BucketName?, key: ObjectKey?, query: QueryItems) {
        self.operation = operation
        self.bucket = bucket
        self.key = key
        self.query = query
    }
}
