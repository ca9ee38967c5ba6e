package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	"mailout/internal/rest"
)

// bodyStart is the first piece of a body. Each further one is as large as all
// before it: who announces much and sends little holds little.
const bodyStart = 64 << 10

// maxBody is how large a JSON body may be: base64 takes a third more than what
// it stands for, and something stands around it.
func maxBody(l Limits) int64 { return l.MessageSize/3*4 + 1<<20 }

// body is a request's body, with a bound of its size. How long it may take is
// the server's business.
type body struct {
	r    *http.Request
	most int64
	read int64
}

func newBody(r *http.Request, most int64) (*body, error) {
	if r.ContentLength > most {
		return nil, bodyTooLarge(most)
	}
	return &body{r: r, most: most}, nil
}

func bodyTooLarge(most int64) *rest.Problem {
	return &rest.Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the request has more than %d octets", most)}
}

// Read implements io.Reader. Its errors are problems, but for io.EOF.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Body.Read(p)
	b.read += int64(n)
	if b.read > b.most {
		return n, bodyTooLarge(b.most)
	}
	var large *http.MaxBytesError
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.As(err, &large):
		return n, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, &rest.Problem{Status: http.StatusRequestTimeout, Detail: "the request came too slowly"}
	}
	return n, &rest.Problem{Status: http.StatusBadRequest, Detail: "the request ended before its end"}
}

// readAll reads the body whole. What it, and all that is made of it, may take
// is taken from the memory before, until release.
func (s *Sender) readAll(b *body) (content []byte, release func(), err error) {
	var held []func()
	release = func() {
		for _, f := range held {
			f()
		}
	}
	defer func() {
		if err != nil {
			release()
			content, release = nil, func() {}
		}
	}()
	taken := int64(0)
	grow := func(to int64) error {
		// A request that is larger than all the memory has all of it, and must not
		// wait for more, which is its own.
		more := min(memoryFactor*(to-int64(cap(content))), s.memory.total-taken)
		f, err := s.memory.take(b.r.Context(), more)
		if err != nil {
			return err
		}
		taken += more
		held = append(held, f)
		bigger := make([]byte, len(content), to)
		copy(bigger, content)
		content = bigger
		return nil
	}
	most := b.most + 1 // one more shows that it is too large
	if b.r.ContentLength >= 0 {
		most = b.r.ContentLength + 1 // and here, that it has ended
	}
	if err := grow(min(bodyStart, most)); err != nil {
		return content, release, err
	}
	for {
		if len(content) == cap(content) {
			if err := grow(min(2*int64(cap(content)), most)); err != nil {
				return content, release, err
			}
		}
		n, err := b.Read(content[len(content):cap(content)])
		content = content[:len(content)+n]
		if errors.Is(err, io.EOF) {
			return content, release, nil
		}
		if err != nil {
			return content, release, err
		}
	}
}

// contentType gives the media type of a request; a problem when it has one that
// cannot be read here.
func contentType(r *http.Request, allowed ...string) (string, error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return "", &rest.Problem{Status: http.StatusUnsupportedMediaType, Field: "Content-Encoding", Detail: "the content must not be compressed"}
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	for _, a := range allowed {
		if err == nil && kind == a && (charset == "" || kind != "application/json" || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")) {
			return kind, nil
		}
	}
	return "", &rest.Problem{Status: http.StatusUnsupportedMediaType, Field: "Content-Type", Detail: "the content must be " + strings.Join(allowed, " or ")}
}
