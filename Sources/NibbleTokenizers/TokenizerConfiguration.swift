internal import Foundation

/// What `tokenizer_config.json` and `special_tokens_map.json` say.
struct TokenizerConfiguration: Sendable {
    /// A special token: its text alone, or with the way it is found.
    enum SpecialToken: Sendable {
        case text(String)
        case token(AddedToken)

        var content: String {
            switch self {
            case .text(let content): content
            case .token(let token): token.content
            }
        }
    }

    /// The roles that one token has, in transformers' order.
    enum Role: String, CaseIterable, Sendable {
        case beginning = "bos_token"
        case end = "eos_token"
        case unknown = "unk_token"
        case separator = "sep_token"
        case padding = "pad_token"
        case classification = "cls_token"
        case mask = "mask_token"
    }

    /// `model_max_length`; nil where it is missing or so large that it means no limit.
    private(set) var modelMaxLength: Int?
    private(set) var roles: [Role: SpecialToken] = [:]
    /// `additional_special_tokens`.
    private(set) var additional: [SpecialToken]?
    /// `added_tokens_decoder`, by id.
    private(set) var addedTokens: [AddedToken] = []
    /// `extra_ids` of T5.
    private(set) var extraIDs: Int?
    /// `legacy` of T5: put a space before every piece, not only before the text.
    private(set) var isLegacy = true
    /// `add_prefix_space` of T5.
    private(set) var addsPrefixSpace = true

    /// - Parameters:
    ///   - config: the contents of `tokenizer_config.json`, if it is there.
    ///   - specialTokensMap: the contents of `special_tokens_map.json`, if it is there. As in transformers, its tokens
    ///     count only where the first file lists no `added_tokens_decoder`.
    /// - Throws: an error of JSON, or ``ContentProblem`` where a number is out of range.
    init(config: Data? = nil, specialTokensMap: Data? = nil) throws {
        let config = try config.map { try JSONDecoder().decode(Contents.self, from: $0) }
        if let config {
            modelMaxLength = config.modelMaxLength
            roles = config.roles
            additional = config.additional
            addedTokens = config.addedTokens ?? []
            extraIDs = config.extraIDs
            isLegacy = config.isLegacy ?? true
            addsPrefixSpace = config.addsPrefixSpace ?? true
        }
        guard config?.addedTokens == nil, let specialTokensMap else { return }
        let map = try JSONDecoder().decode(Contents.self, from: specialTokensMap)
        roles.merge(map.roles) { $1 }
        let known = Set((additional ?? []).map(\.content))
        if let more = map.additional { additional = (additional ?? []) + more.filter { !known.contains($0.content) } }
    }
}

extension TokenizerConfiguration.SpecialToken: Decodable {
    init(from decoder: any Decoder) throws {
        if let text = try? decoder.singleValueContainer().decode(String.self) {
            self = .text(text)
        } else {
            self = .token(try AddedToken(from: decoder))
        }
    }
}

/// The JSON object in either file.
private struct Contents: Decodable {
    /// From here on a length means "no limit" (transformers writes 10^30).
    private static let noLimit = 1e9

    let modelMaxLength: Int?
    let roles: [TokenizerConfiguration.Role: TokenizerConfiguration.SpecialToken]
    let additional: [TokenizerConfiguration.SpecialToken]?
    let addedTokens: [AddedToken]?
    let extraIDs: Int?
    let isLegacy: Bool?
    let addsPrefixSpace: Bool?

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        func value<Value: Decodable>(_ name: String) throws -> Value? {
            try container.decodeIfPresent(Value.self, forKey: Key(stringValue: name))
        }
        let length: Double? = try value("model_max_length")
        if let length, !(length >= 1) { throw ContentProblem.malformed("model_max_length is \(length)") }
        modelMaxLength = length.flatMap { $0 < Self.noLimit ? Int($0) : nil }
        var roles: [TokenizerConfiguration.Role: TokenizerConfiguration.SpecialToken] = [:]
        for role in TokenizerConfiguration.Role.allCases { roles[role] = try value(role.rawValue) }
        self.roles = roles
        additional = try value("additional_special_tokens")
        let byID: [String: AddedToken]? = try value("added_tokens_decoder")
        addedTokens = try byID.map { tokens in
            try tokens.map { id, token in
                guard let id = Int32(id) else { throw ContentProblem.malformed("an added token has the id '\(id)'") }
                return (id: id, token: token)
            }.sorted { $0.id < $1.id }.map(\.token)
        }
        extraIDs = try value("extra_ids")
        // T5's sentinels are 100; what is far from that is not a number of tokens.
        if let extraIDs, !(0...100_000).contains(extraIDs) {
            throw ContentProblem.malformed("extra_ids is \(extraIDs)")
        }
        isLegacy = try value("legacy")
        addsPrefixSpace = try value("add_prefix_space")
    }
}
