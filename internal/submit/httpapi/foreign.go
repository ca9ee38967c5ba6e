package httpapi

import (
	"context"
	"net/http"
)

// ReadJSON reads a request for doors that understand other JSON, within the
// time, the size and the memory of this one. key is the Idempotency-Key, or
// empty. release gives the memory back; it is called when the messages made of
// content are taken, and is never nil.
func (s *Sender) ReadJSON(r *http.Request) (content []byte, key string, release func(), err error) {
	if _, key, err = s.begin(r, typeJSON); err == nil {
		content, release, err = s.readJSON(r)
	}
	if release == nil {
		release = func() {}
	}
	return content, key, release, err
}

// Hold takes memory that requests share, for a door that makes much of little.
// It waits for a short time; the error is a problem that says "later". release
// gives it back.
func (s *Sender) Hold(ctx context.Context, octets int64) (release func(), err error) {
	return s.memory.take(ctx, octets)
}
