//! The outline of a JSON text: where each of its values begins and ends.
//!
//! Made in one pass, without building a tree; afterwards a path finds its value by skipping from sibling to sibling.
//! The one reader of JSON in this crate, so that native paths and jq programs agree on what JSON is: RFC 8259, at most
//! [`DEPTH_MAX`] deep, in UTF-8. `serde_json` would skip what it ignores without a limit of depth, and reads numbers
//! of more than 64 bits with loss.

use std::borrow::Cow;

/// Deepest nesting of a JSON text. The same number as `serde_json`'s, so what is accepted here is readable elsewhere.
pub(crate) const DEPTH_MAX: usize = 128;

/// The outline of one JSON text, in document order; an object's keys stand before their values.
#[derive(Debug)]
pub(crate) struct Outline {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    end: u32,
    /// The index of the entry after this one and everything in it.
    next: u32,
    /// Whether a string or key contains a backslash.
    escaped: bool,
}

impl Outline {
    /// Read `text`. The error says what is wrong and where, and quotes nothing.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        if u32::try_from(text.len()).is_err() {
            return Err("it is longer than 4 GiB".to_owned());
        }
        if let Err(error) = std::str::from_utf8(text) {
            return Err(format!("byte {} is not UTF-8", error.valid_up_to()));
        }
        let mut reader = Reader { text, at: 0, entries: Vec::with_capacity(text.len() / 16 + 1) };
        reader.value(0)?;
        match reader.peek() {
            None => Ok(Self { entries: reader.entries }),
            Some(_) => Err(format!("expected nothing more at byte {}", reader.at)),
        }
    }

    /// The value that is the whole text, which must be the one that was read.
    pub(crate) fn root<'a>(&'a self, text: &'a [u8]) -> Node<'a> {
        Node { text, entries: &self.entries, index: 0 }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    entries: Vec<Entry>,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<(), String> {
        let first = self.peek();
        let (start, index) = (self.at, self.entries.len());
        self.entries.push(Entry { start: start as u32, end: 0, next: 0, escaped: false });
        let mut escaped = false;
        match first {
            Some(b'{' | b'[') if depth == DEPTH_MAX => {
                return Err(format!("it is nested more than {DEPTH_MAX} deep"));
            }
            Some(b'{') => self.object(depth + 1)?,
            Some(b'[') => self.array(depth + 1)?,
            Some(b'"') => escaped = self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => return self.expected("a value"),
        }
        let next = self.entries.len() as u32;
        self.entries[index] = Entry { start: start as u32, end: self.at as u32, next, escaped };
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), String> {
        self.at += 1;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.expected("a key");
            }
            let start = self.at as u32;
            let escaped = self.string()?;
            let next = self.entries.len() as u32 + 1;
            self.entries.push(Entry { start, end: self.at as u32, next, escaped });
            if !self.take(b':') {
                return self.expected("`:`");
            }
            self.value(depth)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.expected("`,` or `}`");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), String> {
        self.at += 1;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.expected("`,` or `]`");
            }
        }
    }

    /// Skip a string; tells whether it contains an escape.
    fn string(&mut self) -> Result<bool, String> {
        self.at += 1;
        let mut escaped = false;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
                _ => return self.expected("the end of a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        let rest = &self.text[self.at + 1..];
        self.at += match rest.first() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if rest.len() > 4 && rest[1..5].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return self.expected("an escape sequence"),
        };
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        if self.text.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), String> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.expected("a digit") } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(())
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expected<T>(&self, what: &str) -> Result<T, String> {
        if self.at >= self.text.len() {
            return Err(format!("expected {what}, but it ends at byte {}", self.text.len()));
        }
        Err(format!("expected {what} at byte {}", self.at))
    }
}

/// The kind of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A value within a JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    text: &'a [u8],
    entries: &'a [Entry],
    index: usize,
}

impl<'a> Node<'a> {
    pub(crate) fn kind(self) -> Kind {
        match self.raw()[0] {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ => Kind::Number,
        }
    }

    /// The value's JSON text, as it stands in the document.
    pub(crate) fn raw(self) -> &'a [u8] {
        let entry = self.entry();
        &self.text[entry.start as usize..entry.end as usize]
    }

    /// The value's JSON text as `str`.
    pub(crate) fn raw_str(self) -> &'a str {
        std::str::from_utf8(self.raw()).expect("an outlined text is UTF-8 and its values end at ASCII bytes")
    }

    /// The content of a string.
    pub(crate) fn string(self) -> Cow<'a, str> {
        let raw = self.raw_str();
        let inner = &raw[1..raw.len() - 1];
        if self.entry().escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) }
    }

    /// Whether this string is `text`, without copying it.
    pub(crate) fn is_string(self, text: &str) -> bool {
        if self.entry().escaped {
            return self.string() == text;
        }
        let raw = self.raw();
        raw.len() == text.len() + 2 && &raw[1..raw.len() - 1] == text.as_bytes()
    }

    /// The value of an object's key; of several, the last, as in every common reader.
    pub(crate) fn field(self, key: &str) -> Option<Node<'a>> {
        self.fields().filter(|(name, _)| name.is_string(key)).last().map(|(_, value)| value)
    }

    /// An array's item; a negative position counts from the end.
    pub(crate) fn item(self, position: isize) -> Option<Node<'a>> {
        let ahead = match usize::try_from(position) {
            Ok(ahead) => ahead,
            Err(_) => self.items().count().checked_sub(position.unsigned_abs())?,
        };
        self.items().nth(ahead)
    }

    /// The items of an array.
    pub(crate) fn items(self) -> impl Iterator<Item = Node<'a>> {
        let end = self.entry().next as usize;
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            let node = Node { index, ..self };
            (index < end).then(|| {
                index = node.entry().next as usize;
                node
            })
        })
    }

    /// The keys (as string nodes) and values of an object, duplicates included.
    pub(crate) fn fields(self) -> impl Iterator<Item = (Node<'a>, Node<'a>)> {
        let mut nodes = self.items();
        std::iter::from_fn(move || Some((nodes.next()?, nodes.next()?)))
    }

    fn entry(self) -> Entry {
        self.entries[self.index]
    }
}

/// Resolve the escapes of a string that was read. A half of a surrogate pair becomes U+FFFD, as in jq.
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, after)) = rest.split_once('\\') {
        out.push_str(plain);
        let (character, length) = match after.as_bytes()[0] {
            b'u' => unescape_unicode(after),
            b'b' => ('\u{8}', 1),
            b'f' => ('\u{c}', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            other => (char::from(other), 1),
        };
        out.push(character);
        rest = &after[length..];
    }
    out + rest
}

/// The character of `uXXXX` or `uXXXX\uXXXX` at the start of `text`, and the length of that.
fn unescape_unicode(text: &str) -> (char, usize) {
    let unit = |text: &str| u32::from_str_radix(text.get(1..5)?, 16).ok();
    let high = unit(text).unwrap_or(0xFFFD);
    let low = text[5..].strip_prefix("\\u").and_then(|_| unit(&text[6..]));
    match (high, low) {
        (0xD800..=0xDBFF, Some(low @ 0xDC00..=0xDFFF)) => {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(code).unwrap_or('\u{FFFD}'), 11)
        }
        _ => (char::from_u32(high).unwrap_or('\u{FFFD}'), 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Outline, String> {
        Outline::read(text.as_bytes())
    }

    #[test]
    fn it_accepts_what_serde_json_accepts() {
        for text in
            ["0", " -1.5e+3 ", "[]", "[ ]", "{}", r#"{"a":[1,{"b":null}],"c":"\u00e9\n"}"#, "\"\"", "true"]
        {
            read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn it_refuses_what_is_not_json_and_says_where() {
        for (text, error) in [
            ("", "expected a value, but it ends at byte 0"),
            ("[1,]", "expected a value at byte 3"),
            ("[1 2]", "expected `,` or `]` at byte 3"),
            ("{a:1}", "expected a key at byte 1"),
            ("{\"a\" 1}", "expected `:` at byte 5"),
            ("01", "expected nothing more at byte 1"),
            ("-", "expected a digit, but it ends at byte 1"),
            ("\"a\nb\"", "expected the end of a string at byte 2"),
            ("\"\\x\"", "expected an escape sequence at byte 1"),
            ("nul", "expected a value at byte 0"),
            ("NaN", "expected a value at byte 0"),
            ("<xml/>", "expected a value at byte 0"),
        ] {
            assert_eq!(read(text).expect_err(text), error, "{text}");
        }
        assert_eq!(Outline::read(b"\"\xff\"").expect_err("not UTF-8"), "byte 1 is not UTF-8");
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        read(&nested(DEPTH_MAX)).expect("as deep as allowed");
        assert_eq!(read(&nested(100_000)).expect_err("too deep"), "it is nested more than 128 deep");
    }

    #[test]
    fn strings_are_unescaped() {
        let text = r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d!\udc00""#;
        let outline = read(text).expect("JSON");
        let string = outline.root(text.as_bytes()).string();
        assert_eq!(string, "a\"\\/\u{8}\u{c}\n\r\té😀\u{FFFD}!\u{FFFD}");
    }

    #[test]
    fn the_last_of_duplicate_keys_wins() {
        let text = r#"{"a":1,"b":{"a":5},"\u0061":2}"#;
        let outline = read(text).expect("JSON");
        assert_eq!(outline.root(text.as_bytes()).field("a").map(Node::raw_str), Some("2"));
    }

    #[test]
    fn items_are_found_from_both_ends() {
        let text = "[10,[20],30]";
        let outline = read(text).expect("JSON");
        let item = |position| outline.root(text.as_bytes()).item(position).map(Node::raw_str);
        assert_eq!([item(0), item(1), item(2), item(3)], [Some("10"), Some("[20]"), Some("30"), None]);
        assert_eq!([item(-1), item(-3), item(-4)], [Some("30"), Some("10"), None]);
    }
}
