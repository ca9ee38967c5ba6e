package compose

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// noText stands for HTML that has nothing to read, such as a picture alone:
// filters dislike an empty text.
const noText = "This message can only be shown as HTML.\n"

// textOf makes a plain text of HTML for those who read no HTML: paragraphs and
// items on lines of their own, links with their addresses. It reads the
// document once; broken HTML gives what can be read of it.
func textOf(document string) string {
	t := &texter{tokens: html.NewTokenizer(strings.NewReader(document))}
	for t.next() {
	}
	text := strings.TrimSpace(t.out.String())
	if text == "" {
		return noText
	}
	return text + "\n"
}

// texter writes words with at most one space, or two line ends, between them.
type texter struct {
	tokens  *html.Tokenizer
	out     strings.Builder
	space   bool // white space is due before the next word
	lines   int  // line ends are due before the next word
	skip    atom.Atom
	href    string // of the link that is open
	linkAt  int    // where its text begins
	started bool
}

func (t *texter) next() bool {
	kind := t.tokens.Next()
	switch kind {
	case html.ErrorToken:
		return false
	case html.TextToken:
		if t.skip == 0 {
			t.words(string(t.tokens.Text()))
		}
	case html.StartTagToken, html.SelfClosingTagToken:
		t.open(t.tokens.Token(), kind == html.SelfClosingTagToken)
	case html.EndTagToken:
		t.end(t.tokens.Token().DataAtom)
	}
	return true
}

func (t *texter) open(tag html.Token, closed bool) {
	if t.skip != 0 {
		return
	}
	switch tag.DataAtom {
	case atom.Script, atom.Style, atom.Title, atom.Template, atom.Noscript:
		if !closed {
			t.skip = tag.DataAtom
		}
	case atom.Br:
		t.lines = min(t.lines+1, 2)
	case atom.Li:
		t.lines = max(t.lines, 1)
		t.words("- ")
	case atom.Img:
		t.words(attribute(tag, "alt"))
	case atom.A:
		t.href, t.linkAt = attribute(tag, "href"), t.out.Len()
	case atom.Td, atom.Th:
		t.space = true
	default:
		t.lines = max(t.lines, breaks(tag.DataAtom))
	}
}

func (t *texter) end(tag atom.Atom) {
	switch {
	case t.skip != 0:
		if tag == t.skip {
			t.skip = 0
		}
	case tag == atom.A:
		text := strings.TrimSpace(t.out.String()[min(t.linkAt, t.out.Len()):])
		if shown := strings.TrimPrefix(t.href, "mailto:"); shown != text && (strings.HasPrefix(t.href, "http") || shown != t.href) {
			t.words(" <" + shown + ">")
		}
		t.href = ""
	default:
		t.lines = max(t.lines, breaks(tag))
	}
}

// breaks is how many line ends an element has before and behind it.
func breaks(a atom.Atom) int {
	switch a {
	case atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Ul, atom.Ol, atom.Blockquote, atom.Pre, atom.Table, atom.Hr, atom.Dl:
		return 2
	case atom.Div, atom.Tr, atom.Li, atom.Section, atom.Article, atom.Header, atom.Footer, atom.Address, atom.Dt, atom.Dd, atom.Center, atom.Figure, atom.Main, atom.Nav:
		return 1
	}
	return 0
}

// words writes text, its white space made single spaces.
func (t *texter) words(text string) {
	for len(text) > 0 {
		i := strings.IndexAny(text, " \t\r\n\f")
		if i == 0 {
			t.space = true
			text = text[1:]
			continue
		}
		if i < 0 {
			i = len(text)
		}
		t.word(text[:i])
		text = text[i:]
	}
}

func (t *texter) word(word string) {
	switch {
	case !t.started:
	case t.lines > 0:
		t.out.WriteString(strings.Repeat("\n", t.lines))
	case t.space:
		t.out.WriteByte(' ')
	}
	t.started, t.space, t.lines = true, false, 0
	t.out.WriteString(word)
}

func attribute(tag html.Token, name string) string {
	for _, a := range tag.Attr {
		if a.Key == name {
			return strings.TrimSpace(a.Val)
		}
	}
	return ""
}
