package mtatest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func (s *session) mail(rest, line string) error {
	address, params, ok := splitPath(rest, "FROM:")
	switch {
	case !ok:
		s.violate("not a return path: %q", line)
		return s.say(StageMail, line, "501 5.1.7 not a return path")
	case s.helo == "" || s.open:
		s.violate("MAIL out of order: %q", line)
		return s.say(StageMail, line, "503 5.5.1 not now")
	case s.mx.cfg.MaxMessages > 0 && s.mails >= s.mx.cfg.MaxMessages:
		if err := s.say(StageMail, line, "421 4.7.0 enough messages in this session"); err != nil {
			return err
		}
		return s.flushThen(errEnd)
	case s.mx.cfg.SASL != nil && s.user == "":
		return s.say(StageMail, line, "530 5.7.0 authentication required")
	}
	if refusal := s.mailParams(params); refusal != "" {
		return s.say(StageMail, line, refusal)
	}
	if hasEightBit([]byte(line)) && !s.utf8 {
		s.violate("octets above 127 without SMTPUTF8: %q", line)
	}
	ok, err := s.answer(StageMail, address, line, "250 2.1.0 ok")
	if !ok {
		s.eight, s.utf8 = false, false
		return err
	}
	s.open, s.from, s.params = true, address, params
	s.mails++
	return err
}

// mailParams checks the parameters of MAIL against what is offered; it gives
// a refusal, or nothing.
func (s *session) mailParams(params string) string {
	for _, p := range strings.Fields(params) {
		key, value, _ := strings.Cut(p, "=")
		needs := ""
		switch strings.ToUpper(key) {
		case "SIZE":
			needs = "SIZE"
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				s.violate("not a size: %q", p)
				return "501 5.5.4 not a size"
			}
			if limit := s.mx.cfg.Size; limit > 0 && n > limit {
				return "552 5.3.4 too large"
			}
		case "BODY":
			needs = "8BITMIME"
			s.eight = !strings.EqualFold(value, "7BIT")
		case "SMTPUTF8":
			needs = "SMTPUTF8"
			s.utf8 = true
		case "RET", "ENVID":
			needs = "DSN"
		case "REQUIRETLS":
			needs = "REQUIRETLS"
		default:
			needs = "?"
		}
		if !s.allows(needs) {
			s.violate("MAIL parameter %q although it is not offered", p)
			return "555 5.5.4 parameter not known"
		}
	}
	return ""
}

// allows reports whether the extension was offered in this session.
func (s *session) allows(word string) bool {
	switch word {
	case "?":
		return false
	case "REQUIRETLS": // offered only by MXConfig.With
		return s.esmtp && slices.Contains(s.mx.cfg.With, word)
	}
	return s.esmtp && s.mx.offers(word)
}

func (s *session) rcpt(rest, line string) error {
	address, params, ok := splitPath(rest, "TO:")
	switch {
	case !ok || address == "":
		s.violate("not a recipient: %q", line)
		return s.say(StageRcpt, line, "501 5.1.3 not a recipient")
	case !s.open:
		// Not a violation: the client may have pipelined behind a refused MAIL.
		return s.say(StageRcpt, line, "503 5.5.1 no return path yet")
	case s.chunked:
		s.violate("RCPT inside a BDAT transaction")
		return s.say(StageRcpt, line, "503 5.5.1 not now")
	}
	for _, p := range strings.Fields(params) {
		key, _, _ := strings.Cut(strings.ToUpper(p), "=")
		if key != "NOTIFY" && key != "ORCPT" || !s.allows("DSN") {
			s.violate("RCPT parameter %q although it is not offered", p)
			return s.say(StageRcpt, line, "555 5.5.4 parameter not known")
		}
	}
	if hasEightBit([]byte(line)) && !s.utf8 {
		s.violate("octets above 127 without SMTPUTF8: %q", line)
	}
	usual := "250 2.1.5 ok"
	if limit := s.mx.cfg.MaxRecipients; limit > 0 && len(s.to) >= limit {
		usual = "452 4.5.3 too many recipients"
	} else if s.mx.cfg.Users != nil && !slices.Contains(s.mx.cfg.Users, strings.ToLower(address)) {
		usual = "550 5.1.1 <" + address + ">: no such user here"
	}
	ok, err := s.answer(StageRcpt, address, line, usual)
	if ok {
		s.to = append(s.to, Recipient{Address: address, Params: params})
	}
	return err
}

func (s *session) dataCommand(line string) error {
	switch {
	case s.chunked:
		s.violate("DATA inside a BDAT transaction")
		return s.say(StageData, line, "503 5.5.1 not now")
	case !s.open || len(s.to) == 0:
		return s.say(StageData, line, "554 5.5.1 no valid recipients")
	}
	ok, err := s.answer(StageData, s.from, line, "354 end with a line of one dot")
	if err != nil || !ok {
		return err
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	if err := s.readContent(); err != nil {
		return err
	}
	return s.final("")
}

// readContent reads and unstuffs content up to CRLF dot CRLF (RFC 5321
// 4.5.2). Only CRLF ends a line here; whatever else looks like one is noted.
func (s *session) readContent() error {
	s.data, s.large = s.data[:0], false
	atStart, halfEnd, bare, lonely, length, longest := true, false, false, false, 0, 0
	for {
		piece, err := s.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("inside the content: %w", err)
		}
		if atStart && piece[0] == '.' {
			if len(piece) == 3 && piece[1] == '\r' {
				break
			}
			lonely = lonely || piece[1] != '.'
			piece = piece[1:]
		}
		s.gather(piece)
		length += len(piece)
		longest = max(longest, length)
		body, ended := piece, false
		switch {
		case bytes.HasSuffix(piece, []byte("\r\n")):
			body, ended = piece[:len(piece)-2], true
			bare = bare || halfEnd
		case halfEnd && len(piece) == 1: // the LF of a CRLF that the buffer cut in two
			body, ended = nil, true
		default:
			bare = bare || halfEnd
		}
		// A CR at the end of a full buffer may be half a CRLF.
		if halfEnd = err != nil && body[len(body)-1] == '\r'; halfEnd {
			body = body[:len(body)-1]
		}
		bare = bare || bytes.IndexByte(body, '\r') >= 0 || bytes.IndexByte(body, '\n') >= 0
		if atStart = ended; ended {
			length = 0
		}
	}
	if bare {
		s.violate("content with a bare CR or LF")
	}
	if lonely {
		s.violate("a line of content that begins with a dot that was not doubled")
	}
	if longest > 1000 {
		s.violate("a line of content of %d octets", longest) // RFC 5321 4.5.3.1.6
	}
	return nil
}

// gather appends to the content, up to the limit.
func (s *session) gather(b []byte) {
	limit := s.mx.cfg.Size
	if limit == 0 {
		limit = defaultMaxSize
	}
	if int64(len(s.data)+len(b)) > limit {
		s.large = true
		return
	}
	s.data = append(s.data, b...)
}

// bdat takes one chunk (RFC 3030 2). The octets are read in any case, so that
// the session stays in step.
func (s *session) bdat(rest, line string) error {
	words := strings.Fields(rest)
	size, last := int64(-1), false
	if len(words) > 0 {
		if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
			size = n
		}
		last = len(words) == 2 && strings.EqualFold(words[1], "LAST")
	}
	if size < 0 || len(words) > 2 || len(words) == 2 && !last {
		s.violate("not a BDAT command: %q", line)
		return s.say(StageData, line, "501 5.5.4 not a chunk size")
	}
	fresh, valid := !s.chunked, s.open && len(s.to) > 0 && !s.broken && s.allows("CHUNKING")
	if !s.allows("CHUNKING") {
		s.violate("BDAT although CHUNKING is not offered")
	}
	if valid && fresh {
		if a, ok := s.script().find(StageData, s.from, s.from); ok {
			return s.scriptedChunk(a, size, last, line)
		}
	}
	if err := s.readChunk(size, valid); err != nil {
		return err
	}
	switch {
	case !valid:
		s.broken = true
		return s.say(StageData, line, "503 5.5.1 no transaction for this chunk")
	case last:
		s.chunked = true
		return s.final(line)
	}
	s.chunked = true
	return s.say(StageData, line, "250 2.0.0 "+strconv.FormatInt(size, 10)+" octets")
}

// scriptedChunk is a transaction's first chunk when the script speaks.
func (s *session) scriptedChunk(a Action, size int64, last bool, line string) error {
	if a.Drop && a.Reply == "" {
		_, err := s.act(a, StageData, line)
		return err
	}
	if err := s.readChunk(size, true); err != nil {
		return err
	}
	s.chunked = true
	handled, err := s.act(a, StageData, line)
	if err != nil || handled {
		return err
	}
	switch {
	case a.Reply == "" && last:
		return s.final(line)
	case a.Reply == "":
		return s.say(StageData, line, "250 2.0.0 ok")
	}
	reply := formatReply(a.Reply)
	s.broken = reply[0] >= '4'
	if err := s.say(StageData, line, reply); err != nil {
		return err
	}
	if a.Drop || strings.HasPrefix(reply, "421") {
		return s.drop(a)
	}
	return nil
}

func (s *session) readChunk(size int64, keep bool) error {
	for size > 0 {
		if s.r.Buffered() == 0 {
			if _, err := s.r.Peek(1); err != nil {
				return fmt.Errorf("inside a chunk: %w", err)
			}
		}
		piece, _ := s.r.Peek(int(min(size, int64(s.r.Buffered()))))
		if keep {
			s.gather(piece)
		}
		n, err := s.r.Discard(len(piece))
		if err != nil {
			return fmt.Errorf("inside a chunk: %w", err)
		}
		size -= int64(n)
	}
	return nil
}

// final judges the complete content. line is the last BDAT, or empty.
func (s *session) final(line string) error {
	s.checkContent()
	usual := "250 2.0.0 taken as " + strconv.FormatInt(s.number, 10) + "." + strconv.Itoa(s.count+1)
	if s.large {
		usual = "552 5.3.4 too large"
	}
	a, found := s.script().find(StageDot, s.from, s.from)
	reply := usual
	if found && a.Reply != "" {
		reply = formatReply(a.Reply)
	}
	lost := found && (a.Drop && a.Reply == "" || a.Hang || a.Raw != "" && !positive(a.Raw) || reply[0] >= '4' || a.Takeover != nil)
	if !s.large && (!lost || a.Keep) {
		s.accept(strings.TrimSuffix(reply, "\r\n"))
	}
	if found {
		handled, err := s.act(a, StageDot, line)
		if err != nil || handled {
			s.reset()
			return err
		}
	}
	note := ""
	if s.mx.cfg.OnEvent != nil {
		note = strconv.Itoa(len(s.data)) + " octets"
		first, _, _ := strings.Cut(reply, "\r\n")
		s.event(StageDot, line, first, note)
	}
	s.reset()
	if _, err := s.w.WriteString(reply); err != nil {
		return err
	}
	if !strings.HasSuffix(reply, "\r\n") {
		if _, err := s.w.WriteString("\r\n"); err != nil {
			return err
		}
	}
	if _, err := s.w.WriteString(a.After); err != nil {
		return err
	}
	if a.Drop || strings.HasPrefix(reply, "421") {
		return s.drop(a)
	}
	return nil
}

// checkContent notes what a correct client never sends.
func (s *session) checkContent() {
	if bytes.IndexByte(s.data, 0) >= 0 {
		s.violate("content with NUL")
	}
	if !s.eight && hasEightBit(s.data) {
		s.violate("octets above 127 without BODY=8BITMIME")
	}
	if !s.chunked {
		return // readContent looked at the line ends
	}
	ends := bytes.Count(s.data, []byte("\r\n"))
	if bytes.Count(s.data, []byte{'\n'}) != ends || bytes.Count(s.data, []byte{'\r'}) != ends {
		s.violate("chunked content with a bare CR or LF")
	}
}

// accept makes the message and hands it to the server.
func (s *session) accept(reply string) {
	s.count++
	data := s.data
	if !s.mx.cfg.Discard {
		data = bytes.Clone(data)
	}
	s.mx.keep(&Message{
		Seq: s.mx.sequence.Add(1), Session: s.number, InSession: s.count,
		Local: s.conn.LocalAddr(), Remote: s.conn.RemoteAddr(),
		Helo: s.helo, ESMTP: s.esmtp, TLS: s.tls,
		From: s.from, Params: s.params, To: s.to, User: s.user,
		Data: data, Chunked: s.chunked, Reply: reply,
	})
}
