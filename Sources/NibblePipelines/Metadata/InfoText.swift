internal import Foundation

/// The text that AUTOMATIC1111's stable-diffusion-webui and its kin keep in a PNG under `parameters`: the prompt, then a
/// line of `name: value` fields (its `modules/infotext_utils.py`; Forge adds `Distilled CFG Scale` for FLUX.1).
public struct InfoText: Sendable, Equatable {
    /// One setting.
    public struct Field: Sendable, Equatable {
        /// At least two letters, digits, spaces, `_`, `-` or `/`.
        public let name: String
        /// Its value, without the quotes.
        public let value: String
    }

    /// The key of the PNG text.
    public static let textKey = "parameters"

    /// What was asked for; may have several lines.
    public let prompt: String
    /// What was asked not to be seen; empty where there is none.
    public let negativePrompt: String
    /// The settings in their order.
    public let fields: [Field]

    /// The value of the last field of a name.
    public subscript(name: String) -> String? { fields.last { $0.name == name }?.value }

    /// The text's parts. Any text has them: one without a line of fields is all prompt.
    public init(parsing text: String) {
        var lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
            .map { trimmed(Array($0)) }
        while lines.last?.isEmpty == true { lines.removeLast() }
        while lines.first?.isEmpty == true { lines.removeFirst() }
        // The original's rule: fewer than three fields are words of the prompt.
        let fields = parseFields(lines.last ?? [])
        self.fields = fields.count < 3 ? [] : fields
        if !self.fields.isEmpty { lines.removeLast() }

        let negativeMark = Array("Negative prompt:".unicodeScalars)
        let negativeStart = lines.firstIndex { $0.starts(with: negativeMark) } ?? lines.count
        prompt = joined(lines[..<negativeStart])
        negativePrompt = joined(
            lines[negativeStart...].map { line in
                line.starts(with: negativeMark) ? trimmed(Array(line.dropFirst(negativeMark.count))) : line
            }[...])
    }

    /// The text of a record.
    public init(_ record: GenerationRecord) {
        prompt = record.prompt
        negativePrompt = ""
        var fields = [
            Field(name: "Steps", value: "\(record.steps)"),
            Field(name: "Sampler", value: "Euler"),
            Field(name: "Schedule type", value: "Simple"),
            // Classifier-free guidance is not used: FLUX.1's guidance is distilled into the model.
            Field(name: "CFG scale", value: "1"),
        ]
        if let guidance = record.guidance {
            fields.append(Field(name: "Distilled CFG Scale", value: shortest(guidance)))
        }
        fields += [
            Field(name: "Seed", value: "\(record.seed)"),
            Field(name: "Size", value: "\(record.width)x\(record.height)"),
        ]
        let model = (record.transformer ?? record.model).split(separator: "/").last.map(String.init) ?? ""
        if !model.isEmpty { fields.append(Field(name: "Model", value: model)) }
        fields.append(Field(name: "Version", value: "nibble \(record.nibbleVersion)"))
        self.fields = fields
    }

    /// The parts as one text. NUL, which a PNG text cannot hold, is left out.
    public var text: String {
        var lines = [prompt]
        if !negativePrompt.isEmpty { lines.append("Negative prompt: \(negativePrompt)") }
        lines.append(fields.map { "\($0.name): \(quoted($0.value))" }.joined(separator: ", "))
        var scalars = String.UnicodeScalarView()
        scalars.append(contentsOf: lines.joined(separator: "\n").unicodeScalars.filter { $0 != "\0" })
        return String(scalars)
    }
}

/// A value as a JSON string where it holds what ends a field or would be taken for quotes.
private func quoted(_ value: String) -> String {
    let scalars = Array(value.unicodeScalars)
    let isPlain =
        scalars.allSatisfy { $0 != "," && $0 != ":" && $0.value >= 0x20 } && scalars.first != "\""
        && trimmed(scalars) == scalars
    if isPlain { return value }
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    // A string can always be encoded.
    return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? value
}

/// The value of a field as it stands in the text.
private func unquoted(_ value: String) -> String {
    guard value.first == "\"", value.last == "\"" else { return value }
    return (try? JSONDecoder().decode(String.self, from: Data(value.utf8))) ?? value
}

/// The fields of a line: all that the original's regular expression finds in it,
/// `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`, but in time that grows with the line only.
private func parseFields(_ line: [Unicode.Scalar]) -> [InfoText.Field] {
    var fields: [InfoText.Field] = []
    var start = 0
    while let colon = line[start...].firstIndex(of: ":") {
        var nameStart = colon
        while nameStart > start, isNamePart(line[nameStart - 1]) { nameStart -= 1 }
        while nameStart < colon, !isWordPart(line[nameStart]) { nameStart += 1 }
        guard colon - nameStart >= 2 else {
            start = colon + 1
            continue
        }
        let valueStart = line[(colon + 1)...].firstIndex { !$0.properties.isWhitespace } ?? line.count
        let valueEnd =
            endOfQuoted(line, from: valueStart) ?? line[valueStart...].firstIndex(of: ",") ?? line.count
        fields.append(
            InfoText.Field(
                name: string(line[nameStart..<colon]), value: unquoted(string(line[valueStart..<valueEnd]))))
        start = min(valueEnd + 1, line.count)
    }
    return fields
}

/// Where a quoted value that is followed by a comma or nothing ends; nil where there is none.
private func endOfQuoted(_ line: [Unicode.Scalar], from start: Int) -> Int? {
    guard start < line.count, line[start] == "\"" else { return nil }
    var index = start + 1
    while index < line.count, line[index] != "\"" { index += line[index] == "\\" ? 2 : 1 }
    let end = index + 1
    guard index < line.count, index > start + 1, end == line.count || line[end] == "," else { return nil }
    return end
}

private func isWordPart(_ scalar: Unicode.Scalar) -> Bool {
    scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.numericType != nil
}

private func isNamePart(_ scalar: Unicode.Scalar) -> Bool {
    scalar == " " || scalar == "-" || scalar == "/" || isWordPart(scalar)
}

private func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    return String(view)
}

private func joined(_ lines: ArraySlice<[Unicode.Scalar]>) -> String {
    string(ArraySlice(lines.joined(separator: [Unicode.Scalar("\n")])))
}

private func trimmed(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
    guard let first = scalars.firstIndex(where: { !$0.properties.isWhitespace }),
        let last = scalars.lastIndex(where: { !$0.properties.isWhitespace })
    else { return [] }
    return Array(scalars[first...last])
}

/// A number as people write it: 3, not 3.0.
private func shortest(_ value: Float) -> String {
    let text = "\(value)"
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
}
