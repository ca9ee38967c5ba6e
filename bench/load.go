package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"mailout/internal/mtatest"
)

// load is the source of the cases with many domains. Like smtp-source it waits
// for the reply to every command, because not every relay of the bench offers
// PIPELINING (RFC 2920), and keeps its sessions open.
type load struct {
	messages int
	next     atomic.Int64
	to       []string // RCPT commands, in turn
	body     []byte   // of every message, behind its Message-ID, with the final dot
	dialling chan struct{}
}

// dialsAtOnce is less than the smallest queue of a relay for connections that
// it has not taken yet: OpenSMTPD's has five places, and whoever finds none
// waits for seconds.
const dialsAtOnce = 4

// load hands over n messages. It fails unless every one was accepted.
func (c benchCase) load(ctx context.Context, p peer, n int) error {
	l := &load{messages: n, to: make([]string, domains), body: body(c.size), dialling: make(chan struct{}, dialsAtOnce)}
	for i := range l.to {
		l.to[i] = "RCPT TO:<" + c.recipient(p, i) + ">"
	}
	errs := make([]error, c.sessions)
	var wg sync.WaitGroup
	for s := range c.sessions {
		wg.Go(func() { errs[s] = l.session(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *load) session(ctx context.Context) error {
	l.dialling <- struct{}{}
	c, err := mtatest.Dial(ctx, relayAddr)
	<-l.dialling
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.Hello("source.bench.test"); err != nil {
		return err
	}
	var content []byte
	for {
		n := int(l.next.Add(1))
		if n > l.messages {
			return c.Quit()
		}
		content = fmt.Appendf(content[:0], "Message-Id: <%d.load@source.bench.test>\r\n", n)
		content = append(content, l.body...)
		if err := l.one(c, n, content); err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
	}
}

func (l *load) one(c *mtatest.Client, n int, content []byte) error {
	for _, step := range []struct {
		command string
		want    int
	}{{"MAIL FROM:<sender@bench.test>", 250}, {l.to[n%len(l.to)], 250}, {"DATA", 354}} {
		r, err := c.Cmd("%s", step.command)
		if err != nil {
			return err
		}
		if r.Code != step.want {
			return &mtatest.RefusedError{Command: step.command, Reply: r}
		}
	}
	if _, err := c.Write(content); err != nil {
		return err
	}
	r, err := c.Read()
	if err == nil && r.Code != 250 {
		err = &mtatest.RefusedError{Command: "the final dot", Reply: r}
	}
	return err
}

// body is the rest of a message with size octets of text, as smtp-source makes it.
func body(size int) []byte {
	var b bytes.Buffer
	b.WriteString("From: <sender@bench.test>\r\nTo: <list@bench.test>\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\nSubject: bench\r\n\r\n")
	line := append(bytes.Repeat([]byte("X"), 78), "\r\n"...)
	for end := b.Len() + size; b.Len() < end; {
		b.Write(line)
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}
