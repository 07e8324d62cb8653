/// The parts of a sentencepiece model (`spiece.model`) that a T5 tokenizer is made of.
///
/// Field numbers from sentencepiece, `sentencepiece_model.proto`.
struct SentencePieceFile {
    struct Piece {
        enum Kind: UInt64 {
            case normal = 1
            case unknown = 2
            case control = 3
            case userDefined = 4
            case unused = 5
            case byte = 6
        }

        var text = ""
        var score: Float = 0
        var kind = Kind.normal
    }

    private(set) var pieces: [Piece] = []
    /// `trainer_spec.unk_id`; 0 where the file does not say.
    private(set) var unknownID = 0
    /// `normalizer_spec.precompiled_charsmap`; empty where there is none.
    private(set) var characterMap: ArraySlice<UInt8> = []

    init(_ bytes: ArraySlice<UInt8>) throws {
        var reader = ProtobufReader(bytes)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (1, .bytes(let message)): pieces.append(try Self.piece(message))
            case (2, .bytes(let message)): try readTrainer(message)
            case (3, .bytes(let message)): try readNormalizer(message)
            default: break
            }
        }
    }

    private static func piece(_ message: ArraySlice<UInt8>) throws -> Piece {
        var piece = Piece()
        var reader = ProtobufReader(message)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (1, .bytes(let text)):
                guard let text = String(validating: text, as: UTF8.self) else {
                    throw ContentProblem.malformed("a piece is not UTF-8")
                }
                piece.text = text
            case (2, .bits32(let bits)): piece.score = Float(bitPattern: bits)
            case (3, .integer(let kind)):
                guard let kind = Piece.Kind(rawValue: kind) else {
                    throw ContentProblem.malformed("piece '\(piece.text)' is of the unknown type \(kind)")
                }
                piece.kind = kind
            default: break
            }
        }
        return piece
    }

    private mutating func readTrainer(_ message: ArraySlice<UInt8>) throws {
        var reader = ProtobufReader(message)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (3, .integer(let model)):
                guard model == 1 else { throw ContentProblem.unsupported("another model than Unigram") }
            case (40, .integer(let id)): unknownID = Int(clamping: id)
            default: break
            }
        }
    }

    private mutating func readNormalizer(_ message: ArraySlice<UInt8>) throws {
        var reader = ProtobufReader(message)
        while let (field, value) = try reader.next() {
            if case (2, .bytes(let map)) = (field, value) { characterMap = map }
        }
    }
}
