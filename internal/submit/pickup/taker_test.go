package pickup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/submit"
	"mailout/internal/submit/filedoor"
)

// The rooms are in a directory that others may write to: nothing there leads
// the daemon out of it.
func TestRoomsThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Done = "done" })
	outside := t.TempDir()
	for _, room := range []string{"bad", "done", takenRoom} {
		if err := errors.Join(os.Remove(filepath.Join(b.dir, room)), os.Symlink(outside, filepath.Join(b.dir, room))); err != nil {
			t.Fatal(err)
		}
		b.write("good.eml", plain)
		b.write("evil.eml", "x")
		b.passes()
		if list, err := os.ReadDir(outside); err != nil || len(list) > 0 {
			t.Fatalf("%s: %v, %v", room, list, err)
		}
		if err := b.taker.Prepare(); !errors.Is(err, ErrDirectory) {
			t.Errorf("%s: %v", room, err)
		}
		if err := errors.Join(os.Remove(filepath.Join(b.dir, room)), os.Mkdir(filepath.Join(b.dir, room), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	b.passes()
	if left := b.names("."); left != "" {
		t.Errorf("left: %s", left)
	}
}

// Those who may write into the directory may also remove what the daemon made
// there; it is made again.
func TestRoomsThatAreGone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.passes()
	for _, room := range []string{takenRoom, "bad"} {
		if err := os.RemoveAll(filepath.Join(b.dir, room)); err != nil {
			t.Fatal(err)
		}
		b.write("a.eml", plain)
		b.write("b.eml", "x")
		b.passes()
		b.passes()
		if b.names(".")+b.names(takenRoom) != "" {
			t.Errorf("%s: left %q, %q", room, b.names("."), b.names(takenRoom))
		}
	}
	if len(b.in.taken) != 2 || len(strings.Fields(b.names("bad"))) != 2 {
		t.Errorf("taken %q, bad %q", b.in.all(), b.names("bad"))
	}
}

func TestAFileBeingWrittenIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	half := plain[:len(plain)/2]
	path := b.write("a.eml", half)
	look := func(after time.Duration) {
		b.now = b.now.Add(after)
		b.taker.pass()
	}
	look(0)
	look(defaultQuiet - 1)
	b.write("a.eml", plain) // the same time stamp is possible, the size is another
	look(1)
	look(defaultQuiet - 1)
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil { // of the same size
		t.Fatal(err)
	}
	look(1)
	look(defaultQuiet - 1)
	if err := errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, []byte(plain), 0o600), os.Chtimes(path, later, later)); err != nil {
		t.Fatal(err)
	}
	b.taker.looks.change("a.eml")
	look(1)
	look(defaultQuiet - 1)
	b.expect()
	b.write("a.json", `{"to":"j@to.exa`)
	look(1)
	look(defaultQuiet - 1)
	b.write("a.json", `{"to":"j@to.example"}`)
	look(1)
	b.expect()
	look(defaultQuiet)
	b.expect("a@from.example → j@to.example: " + plain)
}

func TestARenamedFileIsTakenAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.taker.pass()
	if b.taker.unwatch != nil { // what is seen, the test says
		b.taker.unwatch()
		b.taker.unwatch = nil
	}
	b.write("a.json", `{"to":"j@to.example"}`)
	b.write("a.eml", plain)
	b.taker.seen("a.eml", filedoor.Arrived)
	b.taker.pass()
	b.expect("a@from.example → j@to.example: " + plain)
	b.write("b.eml", plain)
	b.taker.seen("b.eml", filedoor.Arrived)
	b.taker.seen("b.eml", filedoor.Changed)
	b.taker.pass()
	if n := len(b.in.taken); n != 1 {
		t.Error("taken while somebody writes to it")
	}
}

func TestAFileThatChangesWhileItIsReadWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	path := b.write("a.eml", plain)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b.in.while = func() { f.WriteString("more\n") }
	b.passes()
	b.expect()
	b.in.while = nil
	b.taker.pass()
	b.expect("a@from.example → b@to.example c@to.example: " + plain + "more\n")
}

func TestWhatMustWaitStays(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	full := &submit.Refusal{Reply: mta.Reply{Code: 452, Enhanced: mta.Enhanced{Class: 4, Subject: 3, Detail: 1}}}
	b.write("a.eml", plain)
	b.write("a.json", "{}")
	b.in.said = full
	if !b.passes() || b.names(".") != "a.eml a.json" {
		t.Fatalf("left %q", b.names("."))
	}
	b.in.said, b.in.says = nil, full
	if !b.passes() || b.names(".") != "" || b.names("bad") != "" {
		t.Fatalf("left %q, bad %q", b.names("."), b.names("bad"))
	}
	id := strings.Fields(b.names(takenRoom))[0][:mta.IDLength]
	b.in.says, b.in.tells = nil, full
	b.again(nil)
	if !b.passes() {
		t.Fatal("not short")
	}
	b.in.tells = nil
	if b.passes() || len(b.in.taken) != 1 || b.names(takenRoom) != "" {
		t.Fatalf("%q, left %q", b.in.all(), b.names(takenRoom))
	}
	for got := range b.in.taken {
		if got.String() != id {
			t.Errorf("%s was %s", got, id)
		}
	}
	for _, b.in.says = range []error{
		&submit.Refusal{Reply: mta.Reply{Code: 552}},
		&submit.Refusal{Reply: mta.Reply{Code: 452, Enhanced: mta.Enhanced{Class: 4, Subject: 5, Detail: 3}}}, // too many recipients
	} {
		b.write("b.eml", plain)
		if b.passes() || !strings.Contains(b.names("bad"), "b.eml") || b.names(takenRoom) != "" {
			t.Errorf("%v: bad %q", b.in.says, b.names("bad"))
		}
	}
}

// A bug that one file brings out ends neither the daemon nor the others' mail,
// and the file is not lost.
func TestAPanicIsOneFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.write("a.eml", plain)
	b.in.while = func() { panic("a bug") }
	b.passes()
	if n := len(strings.Fields(b.names(takenRoom))); n != 1 {
		t.Fatalf("%d in the room", n)
	}
	b.in.while = nil
	b.passes()
	b.expect("a@from.example → b@to.example c@to.example: " + plain)
}

func TestDone(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Done = "done" })
	for range 2 {
		b.write("a.eml", plain)
		b.write("a.json", "{}")
		b.passes()
	}
	names := strings.Fields(b.names("done"))
	if len(names) != 4 || !strings.HasSuffix(names[0], "-a.eml") || !strings.HasSuffix(names[1], "-a.json") {
		t.Fatalf("%q", names)
	}
	for id := range b.in.taken {
		if b.read("done/"+id.String()+"-a.eml") != plain {
			t.Errorf("%s", id)
		}
	}
}

func TestAUserIsHeldToItsRights(t *testing.T) {
	t.Parallel()
	book := account.NewBook(nil)
	book.Configure([]account.User{{Name: "erp", From: account.Senders{"*@from.example"}, Stream: "invoices", Rate: account.Rate{Messages: 3, Per: 24 * time.Hour}}})
	b := newBench(t, func(o *Options) {
		o.User = func() *account.User { return book.User("erp") }
		o.Stream = "other"
	})
	b.write("a-good.eml", plain)
	b.write("b-other.eml", "X-Sender: x@other.example\nX-Receiver: b@to.example\n"+plain)
	b.write("c-stream.eml", plain)
	b.write("c-stream.json", `{"stream":"alerts"}`)
	b.write("d-rate.eml", plain)
	if !b.passes() || b.names(".") != "d-rate.eml" {
		t.Errorf("left %q", b.names("."))
	}
	b.expect("a@from.example → b@to.example c@to.example: " + plain)
	for _, d := range b.in.taken {
		if d.r.Stream != "invoices" || d.r.User == nil || d.r.Origin.User != "erp" {
			t.Errorf("%+v", d.r)
		}
	}
	if !strings.Contains(b.read("bad/b-other.reason"), "erp may not send from x@other.example") || !strings.Contains(b.read("bad/c-stream.reason"), "stream") {
		t.Error(b.names("bad"))
	}
}

func TestFromIsHeldWithoutAUser(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.From = account.Senders{"*@from.example"} })
	b.write("a.eml", plain)
	b.write("b.eml", "X-Sender: x@other.example\nX-Receiver: b@to.example\n"+plain)
	b.write("c.eml", "X-Sender: <>\nX-Receiver: b@to.example\n\n")
	b.passes()
	b.expect(" → b@to.example: \n", "a@from.example → b@to.example c@to.example: "+plain)
	if reason := b.read("bad/b.reason"); !strings.Contains(reason, "this directory may not send from x@other.example (allowed: *@from.example)") {
		t.Error(reason)
	}
}

// More files than are remembered are taken in one go all the same: those that
// find no room at first do when others are taken.
func TestMoreFilesThanAreRemembered(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(".")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	l := newLooks(now)
	var names []string
	for i := range 3 * maxLooks {
		names = append(names, fmt.Sprint(i))
	}
	for passes := 0; len(names) > 0; passes++ {
		if passes > 3 {
			t.Fatalf("%d are left", len(names))
		}
		l.begin()
		names = slices.DeleteFunc(names, func(name string) bool {
			if !l.settled(name, info, now, time.Second) {
				return false
			}
			l.drop(name)
			return true
		})
		if len(l.now) > maxLooks {
			t.Fatalf("%d remembered", len(l.now))
		}
		now = now.Add(time.Second)
	}
}

func TestThousandsOfFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	const n = 3000
	for i := range n {
		b.write(fmt.Sprintf("%d.eml", i), plain)
	}
	b.passes()
	if len(b.in.taken) != n || b.names(".") != "" {
		t.Errorf("%d taken, left %d", len(b.in.taken), len(strings.Fields(b.names("."))))
	}
}

// A crash after any step leaves a message that is taken once, and with the
// envelope that stood beside it.
func TestCrashesBetweenRenames(t *testing.T) {
	t.Parallel()
	id := mta.NewID(time.Now(), [10]byte{1})
	taken := func(name string) string { return filepath.Join(takenRoom, takenName(id, name)) }
	for name, c := range map[string]struct {
		files map[string]string
		want  string // the recipient; empty: taken before
		bad   string
	}{
		"message staged":         {map[string]string{taken("a.eml") + "~": plain, "a.json": `{"to":"j@to.example"}`}, "j@to.example", ""},
		"envelope moved":         {map[string]string{taken("a.eml") + "~": plain, taken("a.json"): `{"to":"j@to.example"}`}, "j@to.example", ""},
		"taken over":             {map[string]string{taken("a.eml"): plain, taken("a.json"): `{"to":"j@to.example"}`}, "j@to.example", ""},
		"without an envelope":    {map[string]string{taken("a.eml"): plain, "a.json": `{"to":"j@to.example"}`}, "b@to.example c@to.example", ""},
		"message removed":        {map[string]string{taken("a.json"): `{"to":"j@to.example"}`}, "", ""},
		"reason written":         {map[string]string{taken("a.eml") + "~": "x", taken("a.json"): "{}", "bad/a.reason": "y"}, "", "a.eml a.json a.reason"},
		"bad envelope moved":     {map[string]string{taken("a.eml") + "~": "x", "bad/a.json": "{}", "bad/a.reason": "y"}, "", "a.eml a.json a.reason"},
		"envelope taken back":    {map[string]string{taken("a.eml") + "~": plain}, "", "a.eml a.reason"},
		"a new one of that name": {map[string]string{taken("a.eml"): plain, "bad/a.eml": "z"}, "b@to.example c@to.example", "a.eml"},
	} {
		b := newBench(t, nil)
		for path, content := range c.files {
			b.write(path, content)
		}
		b.again(nil)
		b.taker.pass()
		if c.want == "" {
			b.expect()
		} else {
			b.expect("a@from.example → " + c.want + ": " + plain)
		}
		if b.names("bad") != c.bad || b.names(takenRoom) != "" {
			t.Errorf("%s: bad %q, left %q", name, b.names("bad"), b.names(takenRoom))
		}
	}
	// The machine died between acceptance and removal.
	b := newBench(t, nil)
	b.write("a.eml", plain)
	b.passes()
	for id := range b.in.taken {
		b.write(filepath.Join(takenRoom, takenName(id, "a.eml")), plain)
	}
	b.in.tells = errors.New("must not be asked")
	b.again(nil)
	if b.passes() || len(b.in.taken) != 1 || b.names(takenRoom) != "" {
		t.Errorf("%q, left %q", b.in.all(), b.names(takenRoom))
	}
}

func TestDirectoriesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(dir string) error{
		"writable by all": func(dir string) error { return os.Chmod(dir, 0o777) },
		"no directory":    func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
		"room is a file": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "bad")), os.WriteFile(filepath.Join(dir, "bad"), nil, 0o600))
		},
		"private room is open": func(dir string) error { return os.Chmod(filepath.Join(dir, takenRoom), 0o770) },
	} {
		b := newBench(t, nil)
		if err := change(b.dir); err != nil {
			t.Fatal(err)
		}
		if err := b.taker.Prepare(); !errors.Is(err, ErrDirectory) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := newBench(t, nil)
	if err := os.Chmod(b.dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := b.taker.Prepare(); err != nil {
		t.Error(err)
	}
}

// The watch, or the polling in its place, sees what comes while it runs, also in
// a directory that was made anew; Stop waits for it (goleak looks).
func TestTheTakerSeesWhatComes(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Poll, o.Quiet, o.Now = time.Second, time.Millisecond, nil })
	place := func(name string) {
		if err := os.Rename(b.write(name+".tmp", plain), filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	place("before.eml")
	b.taker.Start(t.Context())
	<-b.in.began
	place("after.eml")
	<-b.in.began
	if err := os.Rename(b.dir, b.dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(b.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	place("anew.eml")
	<-b.in.began
	if err := b.taker.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(b.in.taken) != 3 || b.names(".") != "" {
		t.Errorf("%q, left %q", b.in.all(), b.names("."))
	}
}
