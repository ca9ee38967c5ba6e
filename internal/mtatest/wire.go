package mtatest

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// formatReply makes the octets of a reply from "CODE text\nmore text".
func formatReply(reply string) string {
	code, text := reply, ""
	if len(reply) > 3 {
		code, text = reply[:3], reply[4:]
	}
	lines := strings.Split(text, "\n")
	var b strings.Builder
	for i, line := range lines {
		b.WriteString(code)
		if i < len(lines)-1 {
			b.WriteByte('-')
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(strings.TrimSuffix(line, "\r"))
		b.WriteString("\r\n")
	}
	return b.String()
}

// splitVerb gives the command word in upper case and the rest without the
// space between.
func splitVerb(line string) (verb, rest string) {
	verb, rest, _ = strings.Cut(line, " ")
	return strings.ToUpper(verb), rest
}

// splitPath reads "FROM:<path> params" after its keyword. It honours quoted
// local parts and backslashes (RFC 5321 4.1.2) and drops a source route.
func splitPath(rest, keyword string) (address, params string, ok bool) {
	if len(rest) < len(keyword) || !strings.EqualFold(rest[:len(keyword)], keyword) {
		return "", "", false
	}
	rest = rest[len(keyword):]
	if !strings.HasPrefix(rest, "<") {
		return "", "", false
	}
	end, quoted := -1, false
	for i := 1; i < len(rest) && end < 0; i++ {
		switch c := rest[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			end = i
		}
	}
	if end < 0 {
		return "", "", false
	}
	address, params = rest[1:end], rest[end+1:]
	if params != "" && params[0] != ' ' {
		return "", "", false
	}
	if strings.HasPrefix(address, "@") {
		if _, after, found := strings.Cut(address, ":"); found {
			address = after
		}
	}
	return address, strings.TrimPrefix(params, " "), true
}

// headerValue finds the first field of that name in a header section.
func headerValue(data []byte, name string) string {
	for len(data) > 0 {
		line := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			return ""
		}
		if len(line) <= len(name) || line[len(name)] != ':' || !strings.EqualFold(string(line[:len(name)]), name) {
			continue
		}
		value := strings.TrimSpace(string(line[len(name)+1:]))
		for len(data) > 0 && (data[0] == ' ' || data[0] == '\t') {
			more, rest, _ := bytes.Cut(data, []byte{'\n'})
			value += " " + strings.TrimSpace(string(more))
			data = rest
		}
		return strings.TrimSpace(value)
	}
	return ""
}

// hasEightBit reports whether an octet above 127 is in b.
func hasEightBit(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return true
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
