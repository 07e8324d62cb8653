import Foundation
import Testing

@testable import NibbleHub

/// What is a name, what is a path. Valid and invalid names are those of `validate_repo_id` in `huggingface_hub`.
@Suite struct HubNameTests {
    @Test func partsAreFound() throws {
        let whole = try HubName("black-forest-labs/FLUX.1-dev")
        #expect(whole.model == "black-forest-labs/FLUX.1-dev")
        #expect(whole.file == nil)
        #expect(whole.revision == "main")
        let part = try HubName("mit-han-lab/svdq_int4/a/b@2.safetensors@refs/pr/1")
        #expect(part.model == "mit-han-lab/svdq_int4")
        #expect(part.file == "a/b@2.safetensors")
        #expect(part.revision == "refs/pr/1")
        #expect("\(part)" == "mit-han-lab/svdq_int4/a/b@2.safetensors@refs/pr/1")
        #expect("\(try HubName("a/b@main"))" == "a/b")
    }

    @Test(arguments: [
        "", "name", "/a/b", "a/", "/b", "a//b", "-a/b", "a/b-", ".a/b", "a/b.", "a/b--c", "a/b..c", "a/b.git", "a b/c",
        "a/b\u{e9}", "a/b\n", "a/b/", "a/b/../c", "a/b/./c", "a/b//c", "a/b/c\u{0}", "a/b/c\\d", "a/b@", "a/b@x y",
        "a/b@../x", "a/b@/x", "a/b@-x", "a/b@x/", "a/b@x//y", "a/b@x?y", "a/" + String(repeating: "b", count: 96),
        "a/b/" + String(repeating: "c", count: 256), "a/b/" + String(repeating: "c/", count: 4000) + "d", "../a/b",
    ])
    func badNamesAreRefused(_ text: String) {
        #expect { try HubName(text) } throws: { error in
            guard case .invalidName = error as? HubError else { return false }
            return true
        }
    }

    @Test func anExistingPathWins() async throws {
        let cache = try TemporaryCache()
        #expect(try await Hub.path(of: cache.path) == cache.path)
        // No network is asked for what cannot be a name.
        for text in ["./a/b", "../a/b", "/a/b", "~/a", "model.safetensors", ""] {
            #expect(try await Hub.path(of: text) == text)
        }
    }

    @Test func environmentIsReadAsPythonReadsIt() throws {
        let plain = try HubSettings(environment: ["HOME": "/h"])
        #expect(plain.cache == "/h/.cache/huggingface/hub")
        #expect(plain.endpoint.absoluteString == "https://huggingface.co")
        #expect(plain.token == nil && !plain.isOffline)
        #expect(try HubSettings(environment: ["HOME": "/h", "XDG_CACHE_HOME": "/x"]).cache == "/x/huggingface/hub")
        #expect(try HubSettings(environment: ["HOME": "/h", "HF_HOME": "~/hf"]).cache == "/h/hf/hub")
        let given = try HubSettings(environment: [
            "HOME": "/h", "HF_HOME": "/hf", "HF_HUB_CACHE": "/c", "HF_ENDPOINT": "http://mirror:8080/hub/",
            "HF_TOKEN": " hf_x\n", "HF_HUB_OFFLINE": "yes",
        ])
        #expect(given.cache == "/c")
        #expect(given.endpoint.absoluteString == "http://mirror:8080/hub")
        #expect(given.token == "hf_x" && given.isOffline)
    }

    @Test func theTokenFileIsRead() throws {
        let cache = try TemporaryCache()
        try Data("hf_file\n".utf8).write(to: URL(filePath: cache.path + "/token"))
        #expect(try HubSettings(environment: ["HF_HOME": cache.path]).token == "hf_file")
        #expect(try HubSettings(environment: ["HF_HOME": cache.path, "HF_TOKEN": "hf_other"]).token == "hf_other")
        #expect(
            try HubSettings(environment: ["HF_HOME": cache.path, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"]).token == nil)
    }

    @Test(arguments: [
        ["HF_ENDPOINT": "huggingface.co"], ["HF_ENDPOINT": "ftp://a"], ["HF_ENDPOINT": "https://"],
        ["HF_ENDPOINT": "https://user:word@host"], ["HF_TOKEN": "a\r\nX-Other: b"], ["HF_TOKEN": "a b"],
    ])
    func badSettingsAreRefused(_ environment: [String: String]) {
        #expect(throws: HubError.self) { try HubSettings(environment: environment) }
    }
}
