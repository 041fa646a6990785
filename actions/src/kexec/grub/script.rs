//! The language of `grub.cfg` (GRUB manual, "Writing full configuration files directly").

use super::GrubError;

/// How deep menus and conditions may be nested: far more than any that is made by a program.
const MAX_DEPTH: usize = 32;

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// The value of a variable; whether it stands in quotes, so that blanks in it do not part words.
    Variable {
        name: String,
        quoted: bool,
    },
}

/// A word. One in quotes counts even if it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Word {
    pub(super) pieces: Vec<Piece>,
    pub(super) quoted: bool,
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// Words, and the block after them if there is one.
    Command { words: Vec<Word>, block: Option<Vec<Statement>> },
    /// Conditions with what is done under them, and what is done if none holds.
    If { branches: Vec<(Vec<Statement>, Vec<Statement>)>, otherwise: Vec<Statement> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    End,
    Open,
    Close,
}

impl Word {
    /// The word, if it is nothing but text without quotes: a keyword may be.
    fn plain(&self) -> Option<&str> {
        match (&self.pieces[..], self.quoted) {
            ([Piece::Text(text)], false) => Some(text),
            _ => None,
        }
    }
}

/// Reads a script.
pub(super) fn parse(text: &str) -> Result<Vec<Statement>, GrubError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let statements = parser.statements(&[], 0)?;
    match parser.tokens.get(parser.at) {
        None => Ok(statements),
        Some((line, _)) => {
            Err(GrubError::Syntax { line: *line, what: "a `}` that closes nothing" })
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
}

impl Parser {
    /// Statements up to one of the keywords, a `}` or the end; that is not taken.
    fn statements(&mut self, ends: &[&str], depth: usize) -> Result<Vec<Statement>, GrubError> {
        if depth > MAX_DEPTH {
            return self.fail("menus or conditions are nested too deep");
        }
        let mut statements = Vec::new();
        loop {
            match self.peek() {
                None | Some(Token::Close) => return Ok(statements),
                Some(Token::End) => self.at += 1,
                Some(Token::Open) => {
                    self.at += 1;
                    let block = self.block(depth)?;
                    statements.extend(block);
                }
                Some(Token::Word(word)) => match word.plain() {
                    Some(keyword) if ends.contains(&keyword) => return Ok(statements),
                    Some("if") => {
                        self.at += 1;
                        statements.push(self.condition(depth)?);
                    }
                    // What loops do cannot matter: nothing here changes from turn to turn.
                    Some("while" | "until" | "for") => {
                        self.at += 1;
                        self.statements(&["do"], depth + 1)?;
                        self.keyword("do")?;
                        self.statements(&["done"], depth + 1)?;
                        self.keyword("done")?;
                    }
                    _ => statements.push(self.command(depth)?),
                },
            }
        }
    }

    fn condition(&mut self, depth: usize) -> Result<Statement, GrubError> {
        let mut branches = Vec::new();
        loop {
            let condition = self.statements(&["then"], depth + 1)?;
            self.keyword("then")?;
            let body = self.statements(&["elif", "else", "fi"], depth + 1)?;
            branches.push((condition, body));
            match self.next_word().as_deref() {
                Some("elif") => {}
                Some("else") => {
                    let otherwise = self.statements(&["fi"], depth + 1)?;
                    self.keyword("fi")?;
                    return Ok(Statement::If { branches, otherwise });
                }
                Some("fi") => return Ok(Statement::If { branches, otherwise: Vec::new() }),
                _ => return self.fail("an `if` without its `fi`"),
            }
        }
    }

    fn command(&mut self, depth: usize) -> Result<Statement, GrubError> {
        let mut words = Vec::new();
        let mut block = None;
        loop {
            match self.peek() {
                Some(Token::Word(word)) => {
                    words.push(word.clone());
                    self.at += 1;
                }
                Some(Token::Open) => {
                    self.at += 1;
                    block = Some(self.block(depth)?);
                }
                _ => return Ok(Statement::Command { words, block }),
            }
        }
    }

    /// The statements of a block whose `{` is taken.
    fn block(&mut self, depth: usize) -> Result<Vec<Statement>, GrubError> {
        let statements = self.statements(&[], depth + 1)?;
        match self.peek() {
            Some(Token::Close) => {
                self.at += 1;
                Ok(statements)
            }
            _ => self.fail("a `{` without its `}`"),
        }
    }

    fn keyword(&mut self, keyword: &'static str) -> Result<(), GrubError> {
        if self.next_word().as_deref() == Some(keyword) {
            return Ok(());
        }
        self.fail(match keyword {
            "then" => "an `if` without its `then`",
            "fi" => "an `if` without its `fi`",
            _ => "a loop without its `do` or `done`",
        })
    }

    fn next_word(&mut self) -> Option<String> {
        let word = match self.peek() {
            Some(Token::Word(word)) => word.plain().map(str::to_owned),
            _ => None,
        };
        self.at += 1;
        word
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, GrubError> {
        let line = self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(line, _)| *line);
        Err(GrubError::Syntax { line, what })
    }
}

/// Parts a script into words and marks, each with its line.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, GrubError> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    let mut line = 1;
    let mut word: Option<Word> = None;
    let finish = |word: &mut Option<Word>, tokens: &mut Vec<_>, line| {
        tokens.extend(word.take().map(|word| (line, Token::Word(word))));
    };
    while let Some(character) = characters.next() {
        match character {
            '#' if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            ' ' | '\t' | '\r' => finish(&mut word, &mut tokens, line),
            '\n' | ';' | '{' | '}' => {
                finish(&mut word, &mut tokens, line);
                let token = match character {
                    '{' => Token::Open,
                    '}' => Token::Close,
                    _ => Token::End,
                };
                tokens.push((line, token));
                line += usize::from(character == '\n');
            }
            '\\' => match characters.next() {
                // A line that goes on in the next.
                Some('\n') => line += 1,
                Some(escaped) => push(word.get_or_insert_default(), escaped),
                None => {}
            },
            '\'' => {
                let word = word.get_or_insert_default();
                word.quoted = true;
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(character) => {
                            line += usize::from(character == '\n');
                            push(word, character);
                        }
                        None => return Err(open_quote(line)),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                word.quoted = true;
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('$') => variable(&mut characters, word, true),
                        Some('\\') => match characters.next() {
                            Some(escaped @ ('"' | '$' | '\\')) => push(word, escaped),
                            Some('\n') => line += 1,
                            Some(other) => {
                                push(word, '\\');
                                push(word, other);
                            }
                            None => return Err(open_quote(line)),
                        },
                        Some(character) => {
                            line += usize::from(character == '\n');
                            push(word, character);
                        }
                        None => return Err(open_quote(line)),
                    }
                }
            }
            '$' => variable(&mut characters, word.get_or_insert_default(), false),
            character => push(word.get_or_insert_default(), character),
        }
    }
    finish(&mut word, &mut tokens, line);
    Ok(tokens)
}

fn open_quote(line: usize) -> GrubError {
    GrubError::Syntax { line, what: "a quote that is not closed" }
}

fn push(word: &mut Word, character: char) {
    match word.pieces.last_mut() {
        Some(Piece::Text(text)) => text.push(character),
        _ => word.pieces.push(Piece::Text(character.to_string())),
    }
}

/// Reads a variable whose `$` is taken: `name` or `{name}`. A lone `$` is text.
fn variable(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    word: &mut Word,
    quoted: bool,
) {
    let mut name = String::new();
    if characters.next_if_eq(&'{').is_some() {
        while let Some(character) = characters.next_if(|c| *c != '}' && *c != '\n') {
            name.push(character);
        }
        let _ = characters.next_if_eq(&'}');
    } else {
        let belongs = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '?' | '#' | '@');
        while let Some(character) = characters.next_if(belongs) {
            name.push(character);
        }
        if name.is_empty() {
            return push(word, '$');
        }
    }
    word.pieces.push(Piece::Variable { name, quoted });
}
