/// The special tokens of a tokenizer: what its files name, and its class's own where they name none.
struct SpecialTokenList {
    private let roles: [(role: TokenizerConfiguration.Role, token: TokenizerConfiguration.SpecialToken)]
    private let listed: [AddedToken]
    let extraIDs: Int?
    var additional: [TokenizerConfiguration.SpecialToken]

    fileprivate init(_ configuration: TokenizerConfiguration, defaults: [TokenizerConfiguration.Role: String]) {
        roles = TokenizerConfiguration.Role.allCases.compactMap { role in
            guard let token = configuration.roles[role] ?? defaults[role].map({ .text($0) }) else { return nil }
            return (role, token)
        }
        listed = configuration.addedTokens
        extraIDs = configuration.extraIDs
        additional = configuration.additional ?? []
    }

    /// The text of the token that has a role, or nothing.
    func content(of role: TokenizerConfiguration.Role) -> String {
        roles.first { $0.role == role }?.token.content ?? ""
    }

    /// The tokens that transformers adds to those of a tokenizer: first what the settings list and differs, then the
    /// special tokens that are not there yet.
    ///
    /// - Parameters:
    ///   - existing: tokens that are already there.
    ///   - normalizedRoles: roles whose tokens, where only a text is given, are found in normalized text.
    /// - Returns: the tokens to add, in order.
    func tokens(
        addedTo existing: [AddedToken], normalizedRoles: Set<TokenizerConfiguration.Role>
    ) -> [AddedToken] {
        var added = listed.filter { !existing.contains($0) }
        var known = Set((existing + added).map(\.content))
        let special =
            roles.map { ($0.token, normalizedRoles.contains($0.role)) } + additional.map { ($0, false) }
        for (token, isNormalized) in special where known.insert(token.content).inserted {
            switch token {
            case .text(let content): added.append(AddedToken(content: content, isNormalized: isNormalized))
            case .token(let token): added.append(token)
            }
        }
        return added
    }
}

extension TokenizerConfiguration {
    /// With a class's own tokens where the files name none.
    func filled(with defaults: [Role: String]) -> SpecialTokenList { SpecialTokenList(self, defaults: defaults) }
}
