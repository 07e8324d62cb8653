# Sourced by the scripts: checks the toolchain, installs the libraries that are missing, goes to the repository's root.
# After it: `say WORDS` prints a heading; `require PACKAGE…` installs Debian's or names Homebrew's.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

require_swift() {
    command -v swift > /dev/null ||
        fail "no 'swift' in PATH. Install Swift 6.2 or later from https://www.swift.org/install; put its usr/bin into PATH."
    local version
    version=$(swift --version 2> /dev/null | sed -nE 's/.*Swift version ([0-9]+\.[0-9]+).*/\1/p') || true
    [[ -n $version ]] ||
        fail "'swift --version' does not run. https://www.swift.org/install lists the packages that Swift needs."
    local major=${version%%.*} minor=${version#*.}
    ((major > 6 || (major == 6 && minor >= 2))) ||
        fail "Swift $version is too old: 6.2 or later is needed, from https://www.swift.org/install"
}

as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }

require_debian() {
    local missing=() package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    say "Installing Debian packages: ${missing[*]}"
    ((EUID == 0)) || command -v sudo > /dev/null || fail "no sudo; as root, run: apt-get install ${missing[*]}"
    as_root apt-get update -q < /dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" < /dev/null
}

# The libraries that Nibble links; more packages as arguments, by Debian's names.
require() {
    require_swift
    if [[ $(uname) == Darwin ]]; then
        command -v brew > /dev/null || fail "Homebrew (https://brew.sh) is missing; then: brew install onednn libpng"
        local formula prefix
        for formula in onednn libpng; do
            brew list --versions "$formula" > /dev/null || fail "a library is missing: brew install onednn libpng"
            prefix=$(brew --prefix "$formula")
            export CPATH="$prefix/include${CPATH:+:$CPATH}"
            export LIBRARY_PATH="$prefix/lib${LIBRARY_PATH:+:$LIBRARY_PATH}"
        done
    elif command -v apt-get > /dev/null; then
        require_debian libdnnl-dev libpng-dev liblapack3 "$@"
    else
        printf "Neither apt-get nor Homebrew: oneDNN and libpng, with their headers, must be there already.\n"
    fi
}
