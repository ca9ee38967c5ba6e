package mtatest

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a script's text.
const (
	maxScriptLines = 10_000
	maxScriptDelay = time.Hour
)

// ScriptError is a line of a script that cannot be carried out.
type ScriptError struct {
	Name string // the file
	Line int    // from 1
	Text string // what is wrong, and what would be right
}

// Error gives "FILE:LINE: text".
func (e *ScriptError) Error() string { return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Text) }

// ParseScript reads the text form of MXConfig's rules and options, as
// docs/sink.md describes it, into cfg. name is the file's name for errors,
// which are *ScriptError; the first one ends the reading. Greylist rules need
// a count in the text.
func ParseScript(r io.Reader, name string, cfg *MXConfig) error {
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		if n > maxScriptLines {
			return &ScriptError{name, n, fmt.Sprintf("more than %d lines", maxScriptLines)}
		}
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := parseScriptLine(line, cfg); err != nil {
			return &ScriptError{name, n, err.Error()}
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

func parseScriptLine(line string, cfg *MXConfig) error {
	word, rest := nextWord(line)
	if word == "option" {
		return parseOption(rest, cfg)
	}
	stage := slices.Index(stageNames[:StageClose], word)
	if stage < 0 {
		return fmt.Errorf("%q is neither a stage (%s) nor \"option\"", word, strings.Join(stageNames[:StageClose], ", "))
	}
	rule := Rule{Stage: Stage(stage)}
	pattern, rest := nextWord(rest)
	if err := parsePattern(pattern, &rule); err != nil {
		return err
	}
	if err := parseAction(rest, &rule); err != nil {
		return err
	}
	cfg.Rules = append(cfg.Rules, rule)
	return nil
}

func nextWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \t")
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// parsePattern reads *, a pattern with * and ?, or /a regular expression/.
func parsePattern(text string, rule *Rule) error {
	if text == "" {
		return fmt.Errorf("a pattern is missing (write * for all)")
	}
	if len(text) > 1 && text[0] == '/' && text[len(text)-1] == '/' {
		re, err := regexp.Compile("(?i)" + text[1:len(text)-1])
		if err != nil {
			return fmt.Errorf("the pattern %s: %w", text, err)
		}
		rule.Regexp = re
		return nil
	}
	rule.Match = text
	return nil
}

// parseAction reads the modifiers (first N, after N, delay D), then one
// action. A delay alone is an action.
func parseAction(text string, rule *Rule) error {
	if text == "" {
		return fmt.Errorf("an action is missing: accept, CODE TEXT, drop, reset, hang, lose, greylist N, or delay D")
	}
	for text != "" {
		word, rest := nextWord(text)
		var err error
		switch word {
		case "first":
			rule.First, rest, err = parseCount(rest, word)
		case "after":
			rule.Skip, rest, err = parseCount(rest, word)
		case "delay":
			var d string
			d, rest = nextWord(rest)
			rule.Delay, err = time.ParseDuration(d)
			if err == nil && (rule.Delay < 0 || rule.Delay > maxScriptDelay) {
				err = fmt.Errorf("the delay %s is not between 0 and 1h", d)
			}
		default:
			return parseVerb(word, text, rest, rule)
		}
		if err != nil {
			return err
		}
		text = rest
	}
	return nil
}

func parseCount(text, after string) (int, string, error) {
	word, rest := nextWord(text)
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 {
		return 0, "", fmt.Errorf("after %q comes a number of at least 1, not %q", after, word)
	}
	return n, rest, nil
}

// parseVerb reads the action itself; text begins with word.
func parseVerb(word, text, rest string, rule *Rule) error {
	switch word {
	case "accept":
		return nothingBehind(word, rest)
	case "drop", "reset":
		rule.Drop, rule.Reset = true, word == "reset"
		return parseReply(rest, rule, true)
	case "hang":
		rule.Hang = true
		return nothingBehind(word, rest)
	case "lose":
		if rule.Stage != StageDot {
			return fmt.Errorf("\"lose\" is for the stage dot: the message is taken and the reply lost")
		}
		rule.Drop, rule.Keep = true, true
		return nothingBehind(word, rest)
	case "greylist":
		if rule.Stage != StageRcpt {
			return fmt.Errorf("\"greylist\" is for the stage rcpt")
		}
		n, rest, err := parseCount(rest, word)
		if err != nil {
			return err
		}
		rule.Greylist = n
		return parseReply(rest, rule, true)
	}
	return parseReply(text, rule, false)
}

func nothingBehind(word, rest string) error {
	if rest != "" {
		return fmt.Errorf("nothing may follow %q, but %q does", word, rest)
	}
	return nil
}

// parseReply reads "CODE text", in which \n begins a new line.
func parseReply(text string, rule *Rule, optional bool) error {
	if text == "" && optional {
		return nil
	}
	code, _ := nextWord(text)
	n, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || n < 200 || n > 599 {
		return fmt.Errorf("%q is not a reply (write for example: 550 5.1.1 no such user)", text)
	}
	rule.Reply = strings.ReplaceAll(text, `\n`, "\n")
	return nil
}

// parseOption reads "option NAME VALUE".
func parseOption(text string, cfg *MXConfig) error {
	name, value := nextWord(text)
	number := func(to *int) error {
		n, _, err := parseCount(value, name)
		if err == nil {
			*to = n
		}
		return err
	}
	switch name {
	case "hostname":
		if value == "" {
			return fmt.Errorf("option hostname needs a name")
		}
		cfg.Hostname = value
	case "without":
		cfg.Without = append(cfg.Without, strings.Fields(strings.ToUpper(value))...)
	case "with":
		if value == "" {
			return fmt.Errorf("option with needs a line for the EHLO reply")
		}
		cfg.With = append(cfg.With, value)
	case "size":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("option size needs a number of octets, not %q", value)
		}
		cfg.Size = n
	case "users":
		cfg.Users = append(cfg.Users, strings.Fields(strings.ToLower(value))...)
	case "max-recipients":
		return number(&cfg.MaxRecipients)
	case "max-messages":
		return number(&cfg.MaxMessages)
	case "max-sessions":
		return number(&cfg.MaxSessions)
	default:
		return fmt.Errorf("no option %q (hostname, without, with, size, users, max-recipients, max-messages, max-sessions)", name)
	}
	return nil
}
