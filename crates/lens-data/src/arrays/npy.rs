//! The header of NumPy's `.npy`: a magic number, a version, and a Python dictionary of three keys.

use super::MAX_NPY_HEADER_BYTES;
use super::element::{Element, Endian};

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// The contents of a header, checked against the length of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// As it stands: `<f4`.
    pub descr: String,
    /// The element type, if it is one that is read.
    pub element: Option<(Element, Endian)>,
    /// Whether the columns stand one after another, instead of the rows.
    pub fortran: bool,
    pub shape: Vec<usize>,
    /// Where the data begins.
    pub start: usize,
}

/// Reads the header of a whole file.
pub(super) fn parse(file: &[u8]) -> Result<Header, String> {
    let rest = file.strip_prefix(MAGIC).ok_or("it does not begin as .npy does")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or("it ends in the header")?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or("it ends in the header")?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or("it ends in the header")?;
            let length = usize::try_from(u32::from_le_bytes(*length));
            (length.map_err(|_| "the header is too long")?, rest)
        }
        other => return Err(format!("version {other} of the format is not known")),
    };
    if length > MAX_NPY_HEADER_BYTES {
        return Err(format!("a header of {length} bytes, more than {MAX_NPY_HEADER_BYTES}"));
    }
    let (text, data) = rest.split_at_checked(length).ok_or("it ends in the header")?;
    let text = std::str::from_utf8(text).map_err(|_| "the header is not text")?;
    let dictionary = Dictionary::parse(text)?;
    let element = Element::of_numpy(&dictionary.descr);
    if let Some((element, _)) = element {
        let claimed = dictionary
            .shape
            .iter()
            .try_fold(element.bytes(), |bytes, &n| bytes.checked_mul(n))
            .ok_or("the shape is too large")?;
        if claimed != data.len() {
            let found = data.len();
            return Err(format!("the shape takes {claimed} bytes, but {found} are there"));
        }
    }
    Ok(Header {
        descr: dictionary.descr,
        element,
        fortran: dictionary.fortran,
        shape: dictionary.shape,
        start: file.len() - data.len(),
    })
}

struct Dictionary {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Dictionary {
    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`: what NumPy writes,
    /// with any white space and order of the keys.
    fn parse(text: &str) -> Result<Dictionary, String> {
        let mut scanner = Scanner { rest: text };
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        scanner.require("{")?;
        while !scanner.accept("}") {
            let key = scanner.quoted()?;
            scanner.require(":")?;
            match key {
                "descr" => descr = Some(scanner.quoted()?.to_owned()),
                "fortran_order" => fortran = Some(scanner.boolean()?),
                "shape" => shape = Some(scanner.tuple()?),
                other => return Err(format!("unknown key `{other}` in the header")),
            }
            if !scanner.accept(",") {
                scanner.require("}")?;
                break;
            }
        }
        if !scanner.rest.trim().is_empty() {
            return Err("text behind the header's dictionary".to_owned());
        }
        let missing = |key: &str| format!("the header has no `{key}`");
        Ok(Dictionary {
            descr: descr.ok_or_else(|| missing("descr"))?,
            fortran: fortran.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn accept(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn require(&mut self, token: &str) -> Result<(), String> {
        if self.accept(token) {
            return Ok(());
        }
        let found: String = self.rest.trim_start().chars().take(12).collect();
        Err(format!("the header has {found:?} where `{token}` is expected"))
    }

    fn quoted(&mut self) -> Result<&'a str, String> {
        let quote = if self.accept("'") {
            '\''
        } else if self.accept("\"") {
            '"'
        } else {
            return Err("the header has no quoted text where one is expected (structured arrays \
                        are not read)"
                .to_owned());
        };
        let (text, rest) =
            self.rest.split_once(quote).ok_or("the header has a quote that does not end")?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        if self.accept("True") {
            return Ok(true);
        }
        self.require("False").map(|()| false)
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        let mut numbers = Vec::new();
        self.require("(")?;
        while !self.accept(")") {
            let rest = self.rest.trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let number = rest[..end].parse().map_err(|_| "the shape has no valid number")?;
            numbers.push(number);
            self.rest = &rest[end..];
            if !self.accept(",") {
                self.require(")")?;
                break;
            }
        }
        Ok(numbers)
    }
}
