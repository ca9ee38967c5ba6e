package setup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Question is one thing to ask for.
type Question struct {
	Flag    string // that answers it beforehand; empty: none does
	Prompt  string // a few words, without punctuation
	Default string // what Enter gives; empty: an answer is needed
	Example string // of an answer, where there may be no default
	Choices []Choice
	Check   func(string) error // says why an answer is not possible; may be nil
}

// Choice is one of a few answers.
type Choice struct{ Value, Words string }

// Asker asks somebody. The answer is one that Check takes, or one of Choices;
// the error is ErrStopped when there will be none.
type Asker interface {
	Ask(ctx context.Context, q Question) (string, error)
}

// check tells whether an answer is possible.
func (q Question) check(v string) error {
	if len(q.Choices) > 0 {
		if !slices.ContainsFunc(q.Choices, func(c Choice) bool { return c.Value == v }) {
			return fmt.Errorf("%q is none of the choices", v)
		}
		return nil
	}
	if q.Check == nil {
		return nil
	}
	return q.Check(v)
}

// read makes an answer of a line: Enter is the default, a number a choice.
func (q Question) read(line string) (string, error) {
	v := strings.TrimSpace(line)
	if v == "" {
		v = q.Default
	}
	if v == "" {
		return "", errors.New("an answer is needed")
	}
	if n, err := strconv.Atoi(v); err == nil && 1 <= n && n <= len(q.Choices) {
		v = q.Choices[n-1].Value
	}
	return v, q.check(v)
}

// prompt is the text before the answer.
func (q Question) prompt() string {
	def := q.Default
	for i, c := range q.Choices {
		if c.Value == def {
			def = strconv.Itoa(i + 1)
		}
	}
	if def == "" {
		return q.Prompt + ": "
	}
	return q.Prompt + " [" + def + "]: "
}

// Lines asks line by line.
type Lines struct {
	// Read shows a prompt and gives the line that follows, without its end. Its
	// error ends the questions: end of input, or an interruption.
	Read func(prompt string) (string, error)
	Out  io.Writer
	// Wrong lays out a complaint about an answer; it ends with a line end.
	Wrong func(text string) string
}

// Ask asks until the answer is possible. When ctx ends first, a reader is left
// behind, which the process's end takes.
func (l *Lines) Ask(ctx context.Context, q Question) (string, error) {
	for i, c := range q.Choices {
		fmt.Fprintf(l.Out, "  %d  %s\n", i+1, c.Words)
	}
	for {
		line, err := l.line(ctx, q.prompt())
		if err != nil {
			return "", ErrStopped
		}
		v, wrong := q.read(line)
		if wrong == nil {
			return v, nil
		}
		_, _ = io.WriteString(l.Out, l.Wrong(plain(wrong).Error()))
	}
}

func (l *Lines) line(ctx context.Context, prompt string) (string, error) {
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	type result struct {
		line string
		err  error
	}
	came := make(chan result, 1)
	go func() {
		line, err := l.Read(prompt)
		came <- result{line, err}
	}()
	select {
	case r := <-came:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// PlainReader reads lines as they come, with the prompt before each: for
// terminals that can do no more. The end of input, also in the middle of a
// line, is an error: nobody has pressed Enter.
func PlainReader(in io.Reader, out io.Writer) func(prompt string) (string, error) {
	lines := bufio.NewReader(in)
	return func(prompt string) (string, error) {
		if _, err := io.WriteString(out, prompt); err != nil {
			return "", err
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			_, _ = io.WriteString(out, "\n")
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
}
