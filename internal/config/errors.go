package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a configuration file.
type Error struct {
	File    string // as it was named to Load or Parse
	Line    int    // from 1; 0 when the file as a whole is meant
	Column  int    // in octets, from 1
	Key     string // "hostname", "[delivery] expire", "[[route]]", or "syntax"
	Message string // what is wrong and what to write
	Err     error  // the cause in Go's terms; usually nil
}

// Error gives FILE:LINE:COLUMN: KEY: message, leaving out what is not known.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errors are all errors of one file, ordered by position.
type Errors []*Error

// Error gives one error a line, without a final line end.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.Is and errors.As.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

func (es Errors) sort() {
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// ErrUnknownKey says that a key named on the command line does not exist.
var ErrUnknownKey = errors.New("unknown key")

// keyError is an error about a key and value given on the command line, where
// there is no position.
func keyError(key, format string, args ...any) error {
	return Errors{{Key: key, Message: fmt.Sprintf(format, args...)}}
}

// quotesHint completes what TOML's reader says of a text without quotes, the
// commonest mistake: its words depend on the letter that the text begins with.
func quotesHint(text string) string {
	if strings.HasPrefix(text, "expected keyword ") || strings.HasSuffix(text, " at start of value") {
		text += " (a text stands in quotes)"
	}
	return text
}
