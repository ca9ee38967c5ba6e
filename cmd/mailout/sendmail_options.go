package main

import (
	"errors"
	"fmt"
	"strings"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// The modes of -b; the letters are sendmail's, but for modeRun.
const (
	modeDeliver = 'm'
	modeSMTP    = 's'
	modeList    = 'p'
	modeAliases = 'i'
	modeRun     = 'q'
)

// sendmailOptions is one command line of sendmail(8).
type sendmailOptions struct {
	mode       byte
	fromHeader bool    // -t
	ignoreDots bool    // -i
	sender     *string // -f, -r; nil: the account's address
	fullName   string  // -F
	ret        mta.Ret
	notify     mta.Notify
	envID      string
	eightBit   bool // -B 8BITMIME
	verbose    bool // -v
	config     string
	stream     string
	recipients []string
	run        string   // -q: what follows it
	notes      []string // options without meaning here, for -v
}

// How an option takes its value.
const (
	takesNone  = iota
	takesValue // attached, or the next argument
	takesRest  // attached, or none
)

// sendmailTakes tells for each option letter how it takes a value, as
// sendmail(8), Postfix and Exim have it.
var sendmailTakes = map[byte]int{
	'A': takesValue, 'B': takesValue, 'b': takesValue, 'C': takesValue, 'c': takesNone, 'd': takesRest,
	'e': takesValue, 'F': takesValue, 'f': takesValue, 'G': takesNone, 'h': takesValue, 'I': takesNone,
	'i': takesNone, 'L': takesValue, 'm': takesNone, 'N': takesValue, 'n': takesNone, 'O': takesValue,
	'o': takesValue, 'p': takesValue, 'q': takesRest, 'R': takesValue, 'r': takesValue, 't': takesNone,
	'U': takesNone, 'V': takesValue, 'v': takesNone, 'X': takesValue, 'x': takesNone,
}

// parseSendmail reads a command line. Options end at the first argument that is
// none, and at "--": what follows is a recipient whatever it looks like, so
// that an address from outside can never be an option.
func parseSendmail(mode byte, args []string) (*sendmailOptions, error) {
	o := &sendmailOptions{mode: mode}
	for len(args) > 0 {
		arg := args[0]
		if len(arg) < 2 || arg[0] != '-' {
			break
		}
		args = args[1:]
		if arg == "--" {
			break
		}
		var err error
		if strings.HasPrefix(arg, "--") {
			args, err = o.long(arg[2:], args)
		} else {
			args, err = o.cluster(arg[1:], args)
		}
		if err != nil {
			return nil, err
		}
	}
	o.recipients = args
	return o, nil
}

// long takes mailout's own options, which have no letter in sendmail.
func (o *sendmailOptions) long(name string, args []string) ([]string, error) {
	name, value, attached := strings.Cut(name, "=")
	if name != "config" && name != "stream" {
		return nil, fmt.Errorf("--%s is not known", name)
	}
	if !attached {
		if len(args) == 0 {
			return nil, fmt.Errorf("--%s needs a value", name)
		}
		value, args = args[0], args[1:]
	}
	if name == "config" {
		o.config = value
	} else {
		o.stream = value
	}
	return args, nil
}

// cluster takes options that share a "-", such as -ti or -oi.
func (o *sendmailOptions) cluster(letters string, args []string) ([]string, error) {
	for len(letters) > 0 {
		letter := letters[0]
		letters = letters[1:]
		takes, known := sendmailTakes[letter]
		if !known {
			return nil, fmt.Errorf("-%c is not known", letter)
		}
		value := ""
		switch {
		case takes == takesNone:
		case letters != "" || takes == takesRest:
			value, letters = letters, ""
		case len(args) == 0:
			return nil, fmt.Errorf("-%c needs a value", letter)
		default:
			value, args = args[0], args[1:]
		}
		if err := o.set(letter, value); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// set applies one option.
func (o *sendmailOptions) set(letter byte, value string) (err error) {
	switch letter {
	case 't':
		o.fromHeader = true
	case 'i':
		o.ignoreDots = true
	case 'v':
		o.verbose = true
	case 'f', 'r':
		o.sender = &value
	case 'F':
		o.fullName = value
	case 'C':
		o.config = value
	case 'I':
		o.mode = modeAliases
	case 'b':
		err = o.setMode(value)
	case 'q':
		err = o.setRun(value)
	case 'B':
		err = o.setBody(value)
	case 'N':
		o.notify, err = parseNotify(value)
	case 'R':
		err = o.setRet(value)
	case 'V':
		o.envID = value
		if len(value) > smtp.MaxEnvID || strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
			err = fmt.Errorf("-V takes at most %d printable characters", smtp.MaxEnvID)
		}
	case 'o', 'O':
		o.setOption(letter, value)
	default:
		o.ignored("-" + string(letter) + value)
	}
	return err
}

func (o *sendmailOptions) ignored(what string) {
	o.notes = append(o.notes, what+" has no meaning here and is ignored")
}

func (o *sendmailOptions) setMode(value string) error {
	switch value {
	case "m", "s", "p", "i":
		o.mode = value[0]
		return nil
	case "d", "D", "l":
		return errors.New("-b" + value + ": the daemon is started with \"mailout serve\"")
	}
	return fmt.Errorf("-b%s is not known: -bm, -bs, -bp and -bi are", value)
}

// setRun takes -q, -qIid, -qRrecipient and -qSsender, and a time such as -q30m,
// which is for a daemon and has no meaning beside one.
func (o *sendmailOptions) setRun(value string) error {
	o.mode = modeRun
	if value == "" {
		return nil
	}
	switch value[0] {
	case 'I', 'R', 'S':
		o.run = value
		return nil
	}
	if strings.Trim(value, "0123456789smhdw") == "" {
		o.run = value
		return nil
	}
	return fmt.Errorf("-q%s is not known: -q, -qIid, -qRrecipient and -qSsender are", value)
}

func (o *sendmailOptions) setBody(value string) error {
	switch strings.ToUpper(value) {
	case "7BIT":
		o.eightBit = false
	case "8BITMIME":
		o.eightBit = true
	default:
		return fmt.Errorf("-B %s is neither 7BIT nor 8BITMIME", value)
	}
	return nil
}

func (o *sendmailOptions) setRet(value string) error {
	switch strings.ToLower(value) {
	case "full":
		o.ret = mta.RetFull
	case "hdrs":
		o.ret = mta.RetHeaders
	default:
		return fmt.Errorf("-R %s is neither full nor hdrs", value)
	}
	return nil
}

// setOption takes the options of sendmail's configuration that a command line
// may set: those that end the input differently have their meaning, the others
// none.
func (o *sendmailOptions) setOption(letter byte, value string) {
	switch name, arg, _ := strings.Cut(value, "="); {
	case letter == 'o' && value == "i", letter == 'O' && strings.EqualFold(name, "IgnoreDots") && !strings.HasPrefix(strings.ToLower(arg), "f"):
		o.ignoreDots = true
	default:
		o.ignored("-" + string(letter) + value)
	}
}

// parseNotify reads the value of -N: never, or a list of the others.
func parseNotify(value string) (mta.Notify, error) {
	out, err := mta.ParseNotify(strings.Split(value, ","))
	if err != nil {
		return 0, fmt.Errorf("-N %s: %w", value, err)
	}
	return out, nil
}
