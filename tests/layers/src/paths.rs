// SPDX-License-Identifier: GPL-2.0

//! Finds modules and paths in the tokens of a file. Tokens, and not syntax, since paths also stand in macros.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path in a file, with the line in which it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub line: usize,
    pub segments: Vec<String>,
    /// The name that a `use` gives it; none for a path in the code, and for `*`.
    pub name: Option<String>,
    pub is_use: bool,
}

/// A module that a file declares.
#[derive(Debug)]
pub struct Declared {
    pub name: String,
    /// `#[path = "…"]`.
    pub path: Option<String>,
    /// Its content, if it has one here.
    pub inline: Option<Items>,
}

/// What a file, or a module in it, contains.
#[derive(Default, Debug)]
pub struct Items {
    pub paths: Vec<Written>,
    pub modules: Vec<Declared>,
    /// Macros with `#[macro_export]`.
    pub macros: Vec<String>,
}

impl Items {
    pub fn of(stream: TokenStream) -> Self {
        let mut items = Items::default();
        items.read(stream);
        items
    }

    fn read(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut attributes = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    if let Some(TokenTree::Group(group)) = tokens.get(at + 1) {
                        attributes.push(group.stream());
                        // What is in it is no code, but may be a path, as in `#[kunit::tests]`.
                        at += 1;
                    }
                }
                TokenTree::Group(group) => {
                    self.read(group.stream());
                    // `pub(crate)` stands between an attribute and its item.
                    if group.delimiter() == Delimiter::Brace {
                        attributes.clear();
                    }
                }
                TokenTree::Ident(ident) => {
                    let end = match ident.to_string().as_str() {
                        "use" if !is_punct(tokens.get(at + 1), '<') => {
                            self.read_use(ident.span().start().line, &tokens[at + 1..]) + at
                        }
                        "mod" => self.read_mod(&tokens[at + 1..], &attributes) + at,
                        "macro_rules" => {
                            self.read_macro(&tokens[at + 1..], &attributes);
                            at
                        }
                        _ => {
                            let (segments, length) = segments(&tokens[at..]);
                            let is_field = at > 0 && is_punct(tokens.get(at - 1), '.');
                            if segments.len() > 1 && !is_field {
                                self.paths.push(Written {
                                    line: ident.span().start().line,
                                    segments,
                                    name: None,
                                    is_use: false,
                                });
                            }
                            at + length - 1
                        }
                    };
                    at = end;
                    if !matches!(&tokens[at.min(tokens.len() - 1)], TokenTree::Ident(i) if i == "pub")
                    {
                        attributes.clear();
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads what stands behind `use`; returns the number of tokens up to the semicolon.
    fn read_use(&mut self, line: usize, tokens: &[TokenTree]) -> usize {
        let is_end = |token: &TokenTree| is_punct(Some(token), ';');
        let length = tokens.iter().position(is_end).unwrap_or(tokens.len());
        self.read_tree(line, &[], &tokens[..length]);
        length
    }

    fn read_tree(&mut self, line: usize, prefix: &[String], tokens: &[TokenTree]) {
        let (segments, length) = segments(tokens);
        let mut path = [prefix, &segments].concat();
        match tokens.get(length) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                for (line, part) in parts(group) {
                    self.read_tree(line, &path, &part);
                }
                return;
            }
            _ if path.last().is_some_and(|last| last == "self") && path.len() > 1 => {
                path.pop();
            }
            _ => {}
        }
        let is_glob = is_punct(tokens.get(length), '*');
        let name = match (tokens.get(length), tokens.get(length + 1)) {
            _ if is_glob => None,
            (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) if word == "as" => {
                Some(name.to_string())
            }
            _ => path.last().cloned(),
        };
        self.paths.push(Written {
            line,
            segments: path,
            name,
            is_use: true,
        });
    }

    /// Reads what stands behind `mod`; returns the number of its tokens.
    fn read_mod(&mut self, tokens: &[TokenTree], attributes: &[TokenStream]) -> usize {
        let (Some(TokenTree::Ident(name)), Some(next)) = (tokens.first(), tokens.get(1)) else {
            return 0;
        };
        let inline = match next {
            TokenTree::Group(group) => Some(Items::of(group.stream())),
            token if is_punct(Some(token), ';') => None,
            _ => return 0,
        };
        self.modules.push(Declared {
            name: name.to_string(),
            path: attributes.iter().find_map(path_attribute),
            inline,
        });
        2
    }

    fn read_macro(&mut self, tokens: &[TokenTree], attributes: &[TokenStream]) {
        let is_exported = attributes.iter().any(|a| a.to_string() == "macro_export");
        if let (Some(TokenTree::Ident(name)), true) = (tokens.get(1), is_exported) {
            self.macros.push(name.to_string());
        }
    }
}

/// Reads `a::b::c`; returns the segments, and the number of tokens with the `::` before what follows.
fn segments(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    let mut at = 0;
    // `::a` is a path, too.
    if is_punct(tokens.first(), ':') && is_punct(tokens.get(1), ':') {
        at = 2;
    }
    while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
        segments.push(ident.to_string());
        at += 1;
        if !is_punct(tokens.get(at), ':') || !is_punct(tokens.get(at + 1), ':') {
            break;
        }
        at += 2;
    }
    (segments, at)
}

/// The parts of `{a, b::{c, d}}`, with their lines.
fn parts(group: &Group) -> Vec<(usize, Vec<TokenTree>)> {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    tokens
        .split(|token| is_punct(Some(token), ','))
        .filter(|part| !part.is_empty())
        .map(|part| (part[0].span().start().line, part.to_vec()))
        .collect()
}

fn path_attribute(attribute: &TokenStream) -> Option<String> {
    let mut tokens = attribute.clone().into_iter();
    let is_path = matches!(tokens.next(), Some(TokenTree::Ident(name)) if name == "path");
    match (is_path, tokens.nth(1)) {
        (true, Some(TokenTree::Literal(text))) => {
            Some(text.to_string().trim_matches('"').to_string())
        }
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}
