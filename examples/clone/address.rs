//! Addresses of repositories, as visitors type them.

use url::Url;

/// The limit of an address in characters.
pub(crate) const LONGEST: usize = 1000;

/// The limit of the characters in a folder's name that come from the address.
const LONGEST_NAME: usize = 40;

/// The address of a repository that may be cloned. It cannot be an option and holds no password.
#[derive(Debug, Clone)]
pub(crate) struct Address(Url);

impl Address {
    /// Parses what a visitor typed. The error tells the visitor what is wrong with it.
    pub(crate) fn parse(typed: &str, is_file_allowed: bool) -> Result<Self, String> {
        let typed = typed.trim();
        if typed.is_empty() {
            return Err("The address is missing.".to_owned());
        }
        if LONGEST < typed.chars().count() {
            return Err(format!("The address is longer than {LONGEST} characters."));
        }
        // The parser would drop or escape these, and git would clone something other than what was
        // checked.
        if typed.contains(|it: char| it.is_control() || it.is_whitespace() || it == '\\') {
            return Err("An address has no spaces and no backslashes.".to_owned());
        }
        let url = Url::parse(typed).map_err(|_| only(is_file_allowed))?;
        match url.scheme() {
            "https" if url.host_str().is_some_and(|it| !it.starts_with('-')) => {}
            "file" if is_file_allowed && url.host_str().is_none_or(str::is_empty) => {}
            _ => return Err(only(is_file_allowed)),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("The address must not have a name or a password in it.".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("The address of a repository has neither “?” nor “#”.".to_owned());
        }
        Ok(Self(url))
    }

    /// Returns the normalized address: different spellings of an address become the same text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// Returns the repository's name, made of letters, digits, dots, hyphens and underscores. It
    /// begins with a letter or digit.
    pub(crate) fn name(&self) -> String {
        let last = self.as_str().rsplit('/').next().unwrap_or_default();
        let last = last.strip_suffix(".git").unwrap_or(last);
        let is_plain = |it: &char| it.is_ascii_alphanumeric() || "-_.".contains(*it);
        let name: String = last.chars().filter(is_plain).take(LONGEST_NAME).collect();
        match name.trim_start_matches(['-', '_', '.']) {
            "" => "repository".to_owned(),
            name => name.to_owned(),
        }
    }
}

fn only(is_file_allowed: bool) -> String {
    let or_file = if is_file_allowed { " or file:///" } else { "" };
    format!("The address of a repository begins with https://{or_file} here.")
}
