/// What an administrator can ask of a store, wherever it is open: here, or in a server that holds it.
///
/// Accounts are named by canonical id, display name or e-mail; nil is the root account, but in lists, where it is all.
package protocol Administration: GarbageAdministration, MirrorAcknowledgementAdministration,
    MirrorAdministration,
    MirrorAuditAdministration, RetentionAdministration, ScrubAdministration, SpaceAdministration,
    VolumeAdministration
{
    func status() async throws -> StatusDocument

    func accounts() async throws -> [AccountDocument]
    func createAccount(name: String, email: String?) async throws -> AccountDocument
    func removeAccount(_ name: String) async throws -> RemovedAccountDocument

    func keys(account: String?) async throws -> [KeyDocument]
    func createKey(account: String?, label: String) async throws -> NewKeyDocument
    func removeKey(_ id: String) async throws
    /// - Parameter keepsOld: the old key goes on working until it is removed.
    func rotateKey(_ id: String, keepsOld: Bool) async throws -> NewKeyDocument
    /// - Parameter acceptsLoss: begin anew although the old master key is gone.
    func rotateMasterKey(acceptsLoss: Bool) async throws -> MasterKeyDocument
    func masterKeys() async throws -> MasterKeyListDocument
    /// Reads master.key again: for a file that was put back.
    func reloadMasterKeys() async throws -> MasterKeyListDocument

    func buckets() async throws -> [BucketDocument]
}
