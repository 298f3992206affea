import S3Protocol
import StoreTestKit
import Testing

/// Parses a text as a client would send it.
func parsed(_ text: String) throws -> XMLElement { try XMLReader.read([UInt8](text.utf8)) }

/// The code of the error that a body gives, or nil.
func failureCode(_ body: () throws -> Void) -> S3ErrorCode? {
    do {
        try body()
        return nil
    } catch {
        return (error as? S3Error)?.code
    }
}

@Suite struct XMLReaderTests {
    @Test func aDocumentBecomesATree() throws {
        let tree = try parsed(
            """
            <?xml version="1.0" encoding="UTF-8"?>
            <!-- a remark -->
            <Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Object><Key> a &amp; b&#x20;<![CDATA[<c>]]>&lt;</Key></Object><Quiet/>
            </Delete>
            """
        )
        #expect(tree.name == "Delete")
        #expect(tree.namespace == XMLWriter.namespace)
        #expect(tree.children.map(\.name) == ["Object", "Quiet"])
        #expect(tree.children.first?.children.first?.text == " a & b <c><")
        #expect(tree.children.last?.text == "")
    }

    @Test func prefixesAndTypesAreRead() throws {
        let tree = try parsed(
            """
            <s3:Grantee xmlns:s3="urn:s3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
            xsi:type="Group" plain="1"/>
            """
        )
        #expect(tree.name == "Grantee")
        #expect(tree.namespace == "urn:s3")
        #expect(tree.attributes.count == 2)
        #expect(tree.attribute("type") == "Group")
    }

    private static let bomb = """
        <?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;">
        <!ENTITY lol3 "&lol2;&lol2;&lol2;&lol2;">]><Delete><Quiet>&lol3;</Quiet></Delete>
        """

    @Test(arguments: [
        "", " ", "<", "<a", "<a>", "<a></b>", "<a/><b/>", "text", "<a>&nbsp;</a>", "<a>&#0;</a>",
        "<a>&#x110000;</a>", "<a b='1' b='2'/>", "<a b=1/>", "<?xml version='1.0'?>", "<a>]]></a><",
        "<!-- -- --><a/>",
        "<!DOCTYPE a><a/>", "<!doctype a><a/>", bomb, "<a><!ENTITY b 'c'></a>", "<a><!-- </a>",
        "<a><![CDATA[ </a>",
        "<!DOCTYPE a SYSTEM \"file:///etc/hostname\"><a/>", "<?php echo 1 ?><a/>",
        "\u{FEFF}\u{FEFF}<a/>", "<a>\u{1}</a>",
    ])
    func whatIsNotWellFormedOrNotAllowedIsRefused(text: String) {
        #expect(failureCode { _ = try parsed(text) } == .malformedXML)
    }

    @Test func otherEncodingsAreRefused() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-16\"?><a/>"
        let wide: [UInt8] = [0xFF, 0xFE] + text.utf8.flatMap { [$0, 0] as [UInt8] }
        let latin: [UInt8] = [0x3C, 0x61, 0x3E, 0xE9, 0x3C, 0x2F, 0x61, 0x3E]
        let nul = [UInt8]("<a>".utf8) + [0] + [UInt8]("</a>".utf8)
        for body in [wide, latin, nul] {
            #expect(failureCode { _ = try XMLReader.read(body) } == .malformedXML)
        }
    }

    @Test func deepNestingIsRefusedWithoutDescendingIntoIt() {
        let depth = 200_000
        let text = String(repeating: "<a>", count: depth) + String(repeating: "</a>", count: depth)
        #expect(failureCode { _ = try parsed(text) } == .malformedXML)
        let fits = XMLReader.depthMax
        #expect(
            failureCode {
                _ = try parsed(String(repeating: "<a>", count: fits) + String(repeating: "</a>", count: fits))
            } == nil
        )
    }

    @Test func wideTagsAreRefusedBeforeTheParserComparesTheirAttributes() {
        let attributes = (0..<100_000).map { "a\($0)=''" }.joined(separator: " ")
        #expect(failureCode { _ = try parsed("<a \(attributes)/>") } == .malformedXML)
        let few = (0...XMLReader.attributeCountMax).map { "a\($0)=''" }.joined(separator: " ")
        #expect(failureCode { _ = try parsed("<a \(few)/>") } == .malformedXML)
    }

    @Test func manyElementsAndLargeBodiesAreRefused() {
        let text = "<a>" + String(repeating: "<b/>", count: XMLReader.elementCountMax) + "</a>"
        #expect(failureCode { _ = try parsed(text) } == .malformedXML)
        let large = [UInt8](repeating: 0x20, count: XMLReader.sizeMax + 1)
        #expect(failureCode { _ = try XMLReader.read(large) } == .maxMessageLengthExceeded)
        let manyComments = String(repeating: "<!---->", count: 100_000) + "<a/>"
        #expect(failureCode { _ = try parsed(manyComments) } == nil)
        let openComments = String(repeating: "<!--", count: 100_000)
        #expect(failureCode { _ = try parsed(openComments) } == .malformedXML)
    }

    @Test func bigDocumentsWithinTheBoundsAreRead() throws {
        let key = String(repeating: "k", count: 1024)
        let objects = String(repeating: "<Object><Key>\(key)</Key></Object>", count: 1000)
        let request = try DeleteRequest(xml: parsed("<Delete>\(objects)</Delete>"))
        #expect(request.objects.count == 1000)
        let parts = (1...10_000).map { "<Part><PartNumber>\($0)</PartNumber><ETag>\"e\"</ETag></Part>" }
        let upload = "<CompleteMultipartUpload>\(parts.joined())</CompleteMultipartUpload>"
        #expect(try CompleteMultipartUpload(xml: parsed(upload)).parts.count == 10_000)
    }
}

@Suite struct XMLWriterTests {
    @Test func textStaysInsideItsElement() throws {
        var writer = XMLWriter()
        let text = "</a><b>&amp;\"'é\u{1F600}]]>"
        writer.root("a") { $0.element("Key", text) }
        let tree = try XMLReader.read(writer.bytes)
        #expect(tree.namespace == XMLWriter.namespace)
        #expect(tree.children.map(\.text) == [text])
    }

    @Test func controlCharactersLeaveAsReferences() {
        var writer = XMLWriter(declaration: false)
        writer.element("Key", "a\u{1}\r\n\t\u{7F}")
        #expect(String(decoding: writer.bytes, as: UTF8.self) == "<Key>a&#x1;&#xd;&#xa;&#x9;&#x7f;</Key>")
    }

    @Test func listingsEncodeNamesAsClientsDecodeThem() throws {
        #expect(ListingEncoding.url.encode("foo+1/b ar\u{1}é") == "foo%2B1/b%20ar%01%C3%A9")
        #expect(ListingEncoding.plain.encode("foo+1/b ar") == "foo+1/b ar")
        #expect(try ListingEncoding(query: nil) == .plain)
        #expect(try ListingEncoding(query: "url") == .url)
        #expect(failureCode { _ = try ListingEncoding(query: "base64") } == .invalidArgument)
    }
}
