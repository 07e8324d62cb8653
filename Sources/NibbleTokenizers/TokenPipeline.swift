/// The way from text to ids that both tokenizers share: added tokens, normalizer, words, model, special tokens.
///
/// Equal to Hugging Face's tokenizers (`TokenizerImpl::encode`), id for id.
struct TokenPipeline<Model: SubwordModel>: Sendable {
    let normalizer: Normalizer?
    let preTokenizer: PreTokenizer?
    let model: Model
    let addedVocabulary: AddedVocabulary
    let specialTokens: SpecialTokens

    /// - Parameters:
    ///   - normalizer: is applied to the text between added tokens.
    ///   - preTokenizer: makes words of it.
    ///   - model: makes ids of the words.
    ///   - added: all added tokens, in order.
    ///   - padding: the text of the padding token.
    ///   - around: gives the ids before and after a text; it can ask for the id of a token.
    /// - Throws: ``ContentProblem`` if a token is not in the vocabulary.
    init(
        normalizer: Normalizer?, preTokenizer: PreTokenizer?, model: Model, added: [AddedToken], padding: String,
        around: ((_ token: String, _ role: String) throws -> Int32) throws -> (start: [Int32], end: [Int32])
    ) throws {
        let addedVocabulary = try AddedVocabulary(added, model: model, normalizer: normalizer)
        self.normalizer = normalizer
        self.preTokenizer = preTokenizer
        self.model = model
        self.addedVocabulary = addedVocabulary
        func id(_ token: String, _ role: String) throws -> Int32 {
            guard let id = addedVocabulary.id(of: token) ?? model.id(of: token.utf8) else {
                throw ContentProblem.missingToken(token, role: role)
            }
            return id
        }
        let (start, end) = try around(id)
        specialTokens = SpecialTokens(start: start, end: end, padding: try id(padding, "padding"))
    }

    var vocabularySize: Int {
        let special = (specialTokens.start + specialTokens.end + [specialTokens.padding]).max() ?? -1
        return 1 + Int(max(model.maximumID, addedVocabulary.maximumID, special))
    }

    func encode(_ text: String) -> [Int32] {
        var ids = specialTokens.start
        for segment in addedVocabulary.split(text, normalizer: normalizer) {
            switch segment {
            case .token(let id): ids.append(id)
            case .text(let piece):
                for word in preTokenizer?.split(piece) ?? [piece] { model.encode(word.utf8, into: &ids) }
            }
        }
        return ids + specialTokens.end
    }
}
