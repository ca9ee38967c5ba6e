package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"

	"mailout/internal/compose"
	"mailout/internal/smtp"
)

// inputs reads what the command line names: files, and standard input once.
type inputs struct {
	*globals
	charset string // of texts
	stdin   string // the option that has taken standard input
}

// text gives the value of --text or --html: what was written, @FILE or -.
func (in *inputs) text(flag string, value *string) (string, error) {
	if value == nil {
		return "", nil
	}
	file, isFile := strings.CutPrefix(*value, "@")
	if *value != "-" && !isFile {
		return *value, nil
	}
	if !isFile {
		file = "-"
	}
	raw, err := in.read(flag, file)
	if err != nil {
		return "", err
	}
	return in.decode(flag, raw)
}

// decode makes UTF-8 of a text in the character set of --charset.
func (in *inputs) decode(flag string, raw []byte) (string, error) {
	if strings.EqualFold(in.charset, "UTF-8") {
		raw = []byte(strings.TrimPrefix(string(raw), "\ufeff"))
		if !utf8.Valid(raw) {
			return "", fail(exitData, "%s: the text is not UTF-8; say what it is with --charset", flag)
		}
		return string(raw), nil
	}
	set, err := in.set()
	if err != nil {
		return "", err
	}
	text, err := set.NewDecoder().Bytes(raw)
	if err != nil {
		return "", fail(exitData, "%s: the text is not %s: %v", flag, in.charset, err)
	}
	if strings.HasPrefix(strings.ToUpper(in.charset), "IBM") {
		return strings.ReplaceAll(string(text), "\u0085", "\n"), nil // the line end of EBCDIC
	}
	return string(text), nil
}

// set is the character set of --charset.
func (in *inputs) set() (encoding.Encoding, error) {
	set, err := ianaindex.IANA.Encoding(in.charset)
	if err != nil || set == nil {
		return nil, fail(exitUsage, "--charset %s is not known; write its name at IANA (ISO-8859-1, windows-1252, IBM037, …)", smtp.Harmless(in.charset))
	}
	return set, nil
}

// read reads a file, or standard input as "-", within the bound of a message.
func (in *inputs) read(flag, file string) ([]byte, error) {
	var from io.Reader = in.Stdin
	if file == "-" {
		if in.stdin != "" {
			return nil, fail(exitUsage, "%s and %s cannot both read standard input", in.stdin, flag)
		}
		in.stdin = flag
	} else {
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fail(exitNoInput, "%s: %s does not exist", flag, file)
		}
		if err != nil {
			return nil, fail(exitNoInput, "%s: %v", flag, err)
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || info.IsDir() {
			return nil, fail(exitNoInput, "%s: %s is a directory", flag, file)
		}
		from = f
	}
	raw, err := io.ReadAll(io.LimitReader(from, compose.MaxContent+1))
	if err != nil {
		return nil, fail(exitNoInput, "%s: %v", flag, err)
	}
	if len(raw) > compose.MaxContent {
		return nil, fail(exitData, "%s: %s has over %d MB", flag, file, compose.MaxContent>>20)
	}
	return raw, nil
}

// files reads --attach and --inline.
func (c *composeCmd) files(in *inputs, d *composed) error {
	size := 0
	for _, list := range []struct {
		flag   string
		specs  []string
		inline bool
	}{{"--attach", c.Attach, false}, {"--inline", c.Inline, true}} {
		for _, spec := range list.specs {
			a, file, err := parseFileSpec(list.flag, spec)
			if err != nil {
				return err
			}
			if a.Content, err = in.read(list.flag, file); err != nil {
				return err
			}
			if size += len(a.Content); size > compose.MaxContent {
				return fail(exitData, "the files have over %d MB", compose.MaxContent>>20)
			}
			a.Inline = list.inline
			d.given[fmt.Sprintf("attachments[%d]", len(d.message.Attachments))] = list.flag + " " + file
			d.message.Attachments = append(d.message.Attachments, a)
		}
	}
	return nil
}

// parseFileSpec reads FILE;name=…;type=…;cid=…. A file whose own name has such
// a piece in it can be given as ./FILE from another directory under a link, or
// on standard input.
func parseFileSpec(flag, spec string) (a compose.Attachment, file string, err error) {
	pieces := strings.Split(spec, ";")
	file = pieces[0]
	rest := pieces[1:]
	for len(rest) > 0 && !fileOption(rest[0]) { // a semicolon of the file's name
		file += ";" + rest[0]
		rest = rest[1:]
	}
	if file == "" {
		return a, "", fail(exitUsage, "%s %s names no file", flag, spec)
	}
	a.Name = filepath.Base(file)
	if file == "-" {
		a.Name = ""
	}
	for _, piece := range rest {
		key, value, _ := strings.Cut(piece, "=")
		switch key {
		case "name":
			a.Name = value
		case "cid":
			a.ContentID = value
		case "type":
			a.ContentType = value
		default: // a parameter of the type: type=text/plain;charset=utf-8
			if a.ContentType == "" {
				return a, "", fail(exitUsage, "%s %s: %q is not name=, type= or cid=", flag, spec, piece)
			}
			a.ContentType += ";" + piece
		}
	}
	if a.Name == "" {
		return a, "", fail(exitUsage, "%s -: give the file a name: '-;name=report.pdf'", flag)
	}
	return a, file, nil
}

func fileOption(piece string) bool {
	return strings.HasPrefix(piece, "name=") || strings.HasPrefix(piece, "type=") || strings.HasPrefix(piece, "cid=")
}
