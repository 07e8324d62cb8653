import Testing

@testable import NibbleCheckpoints

/// JSON as RFC 8259 has it; expected values are read off the text.
@Suite struct JSONReaderTests {
    @Test(arguments: [
        (#""""#, ""), (#""plain""#, "plain"), (#""é😀""#, "é😀"), (#""a\"b\\c\/d""#, "a\"b\\c/d"),
        (#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t"), (#""\u0041\u00e9""#, "Aé"), (#""\ud83d\ude00""#, "😀"),
    ])
    func strings(_ text: String, _ expected: String) throws {
        var reader = JSONReader(Array(text.utf8))
        #expect(try reader.string() == expected)
        try reader.end()
    }

    @Test(arguments: [
        #""open"#, #""\"#, #""\q""#, #""\u12""#, #""\u+123""#, #""\ud83d""#, #""\ud83d\u0041""#, #""\ude00""#,
        "\"a\nb\"",
        "x",
    ])
    func badStrings(_ text: String) {
        #expect(throws: JSONReader.Failure.self) {
            var reader = JSONReader(Array(text.utf8))
            _ = try reader.string()
        }
    }

    @Test func textThatIsNotUTF8() {
        #expect(throws: JSONReader.Failure(offset: 1, reason: "a string is not valid UTF-8")) {
            var reader = JSONReader([0x22, 0xff, 0x22])
            _ = try reader.string()
        }
    }

    @Test(arguments: [("0", 0), (" 7 ", 7), ("9223372036854775807", Int.max)])
    func naturals(_ text: String, _ expected: Int) throws {
        var reader = JSONReader(Array(text.utf8))
        #expect(try reader.natural() == expected)
        try reader.end()
    }

    @Test(arguments: ["", "-1", "1.5", "1e3", "01", "9223372036854775808", "99999999999999999999999", "true"])
    func badNaturals(_ text: String) {
        #expect(throws: JSONReader.Failure.self) {
            var reader = JSONReader(Array(text.utf8))
            _ = try reader.natural()
            try reader.end()
        }
    }

    @Test(arguments: ["{}", "[]", "null", "true", "-1.5e+3", #"{"a":[1,{"b":null}],"c":"d"}"#, " [ 1 , 2 ] "])
    func skips(_ text: String) throws {
        var reader = JSONReader(Array(text.utf8))
        try reader.skipValue()
        try reader.end()
    }

    @Test(arguments: ["", "{", "[", "[1,]", "[1 2]", #"{"a"}"#, #"{"a":}"#, #"{"a":1,}"#, "{1:2}", "nul", "]", "{} {}"])
    func badValues(_ text: String) {
        #expect(throws: JSONReader.Failure.self) {
            var reader = JSONReader(Array(text.utf8))
            try reader.skipValue()
            try reader.end()
        }
    }

    /// A million brackets must not exhaust the stack.
    @Test(arguments: ["[", "{\"a\":"]) func deepNesting(_ opening: String) {
        var reader = JSONReader(Array(String(repeating: opening, count: 1_000_000).utf8))
        let failure = #expect(throws: JSONReader.Failure.self) { try reader.skipValue() }
        #expect(failure?.reason == "nested deeper than 64 levels")
    }
}
