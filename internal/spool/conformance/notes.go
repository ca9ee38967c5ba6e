package conformance

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"

	"mailout/internal/spool"
)

// notes gives the store as what keeps notes.
func (e *env) notes() spool.Notes {
	e.Helper()
	n, ok := e.s.(spool.Notes)
	if !ok {
		e.Fatal("the store keeps no notes")
	}
	return n
}

func (e *env) note(name string) []byte {
	e.Helper()
	v, err := e.notes().Note(e.ctx, name)
	e.must(err)
	return v
}

// names lists the notes with a prefix behind after, at most n, as name=value.
func (e *env) names(prefix, after string, n int) (out []string) {
	e.Helper()
	e.must(e.notes().Notes(e.ctx, prefix, after, func(name string, v []byte) bool {
		out = append(out, fmt.Sprintf("%s=%s", name, v))
		return len(out) < n
	}))
	return out
}

// notesKept: a note has the value it was last given, also after a restart and
// with every octet in name and value; nil removes it, and empty is not nil.
func notesKept(e *env) {
	odd := "standing/\x00\xff\n/ü"
	long := "suppress/" + strings.Repeat("x", spool.MaxNoteName-len("suppress/"))
	whole := bytes.Repeat([]byte{0, 1, 2, 255}, spool.MaxNoteValue/4)
	e.equal(e.note("standing/a"), []byte(nil))
	e.must(e.notes().SetNotes(e.ctx, map[string][]byte{
		"standing/a": []byte("first"), odd: {0, 1, 255}, long: whole, "warmup/empty": {}, "warmup/gone": []byte("x"),
	}))
	e.must(e.notes().SetNotes(e.ctx, map[string][]byte{"standing/a": []byte("second"), "warmup/gone": nil, "warmup/never": nil}))
	check := func() {
		e.Helper()
		e.equal(e.note("standing/a"), []byte("second"))
		e.equal(e.note(odd), []byte{0, 1, 255})
		e.equal(e.note(long), whole)
		e.equal(e.note("warmup/empty"), []byte{})
		e.equal(e.note("warmup/gone"), []byte(nil))
		e.equal(e.note("standing/"), []byte(nil))
	}
	check()
	e.put(1, "mail beside the notes", "a@one.example")
	e.reopen()
	check()
	e.equal(len(e.list(spool.Filter{})), 1)
	st, err := e.s.Stats(e.ctx)
	e.must(err)
	e.equal(st.Messages, int64(1))
}

// notesRead: a reading gives the notes with the prefix alone, in the order of
// their octets, from behind a name on, as long as it is wanted; it may call the
// store.
func notesRead(e *env) {
	e.must(e.notes().SetNotes(e.ctx, map[string][]byte{
		"a/": []byte("0"), "a/b": []byte("1"), "a/b\x00": []byte("2"), "a/b/c": []byte("3"), "a/\xff": []byte("4"), "a/\xff\xff": []byte("5"), "a0/x": []byte("6"), "b/b": []byte("7"),
	}))
	e.equal(e.names("a/", "", 99), []string{"a/=0", "a/b=1", "a/b\x00=2", "a/b/c=3", "a/\xff=4", "a/\xff\xff=5"})
	e.equal(e.names("a/b", "", 99), []string{"a/b=1", "a/b\x00=2", "a/b/c=3"})
	e.equal(e.names("a/", "a/b", 2), []string{"a/b\x00=2", "a/b/c=3"})
	e.equal(e.names("a/", "a/b\x01", 1), []string{"a/b/c=3"})
	e.equal(e.names("a/\xff", "", 99), []string{"a/\xff=4", "a/\xff\xff=5"})
	e.equal(e.names("a/", "a", 1), []string{"a/=0"})
	e.equal(e.names("a/", "a/\xff\xff", 9), []string(nil))
	e.equal(e.names("a/", "b", 9), []string(nil))
	e.equal(e.names("c/", "", 9), []string(nil))
	e.equal(len(e.names("", "", 99)), 8)
	var kept [][]byte
	e.must(e.notes().Notes(e.ctx, "a/", "", func(name string, v []byte) bool {
		kept = append(kept, v)
		e.must(e.notes().SetNotes(e.ctx, map[string][]byte{name: nil, "a/zz" + name: []byte("late")}))
		return true
	}))
	e.equal(string(bytes.Join(kept, nil)), "012345") // a snapshot, whose values stay
	e.equal(len(e.names("a/", "", 99)), 6)
}

// notesBounded: what is beyond the bounds, or has no owner, is refused whole.
func notesBounded(e *env) {
	many := make(map[string][]byte)
	for i := range spool.MaxNoteChanges + 1 {
		many[fmt.Sprintf("a/%d", i)] = nil
	}
	heavy := make(map[string][]byte)
	for i := range spool.MaxNotesSize/spool.MaxNoteValue + 1 {
		heavy[fmt.Sprintf("a/%d", i)] = make([]byte, spool.MaxNoteValue)
	}
	for what, changes := range map[string]map[string][]byte{
		"no name": {"": {1}}, "no owner": {"alone": {1}}, "empty owner": {"/x": {1}},
		"name": {"a/" + strings.Repeat("x", spool.MaxNoteName): {1}}, "value": {"a/b": make([]byte, spool.MaxNoteValue+1)},
		"one of two": {"a/good": {1}, "bad": {1}}, "too many": many, "too much": heavy,
	} {
		if err := e.notes().SetNotes(e.ctx, changes); err == nil {
			e.Errorf("%s: taken", what)
		}
	}
	e.equal(e.names("", "", 9), []string(nil))
	e.must(e.notes().SetNotes(e.ctx, nil))
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.is(e.notes().SetNotes(ctx, map[string][]byte{"a/b": {1}}), context.Canceled)
	e.equal(e.note("a/b"), []byte(nil))
	n := e.notes()
	e.must(e.s.Close())
	e.is(n.SetNotes(e.ctx, map[string][]byte{"a/b": {1}}), spool.ErrClosed)
	_, err := n.Note(e.ctx, "a/b")
	e.is(err, spool.ErrClosed)
	e.is(n.Notes(e.ctx, "", "", nil), spool.ErrClosed)
	e.s = e.open()
}

// notesConcurrent: writers of different notes do not lose each other's, beside
// mail.
func notesConcurrent(e *env) {
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				v := []byte(fmt.Sprint(i))
				if err := e.notes().SetNotes(e.ctx, map[string][]byte{fmt.Sprintf("a/%d", w): v, fmt.Sprintf("b/%d/%d", w, i): v}); err != nil {
					e.Error(err)
				}
			}
		})
	}
	for n := range 10 {
		e.put(uint64(n+1), "x", "a@one.example")
	}
	wg.Wait()
	e.reopen()
	for w := range writers {
		e.equal(string(e.note(fmt.Sprintf("a/%d", w))), fmt.Sprint(each-1))
		e.equal(len(e.names(fmt.Sprintf("b/%d/", w), "", 99)), each)
	}
}
