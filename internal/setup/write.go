package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mailout/internal/config"
)

// Modes of what is made. The configuration may be read by everybody, for the
// command line reads it; keys and mail may not.
const (
	configDirMode = 0o755
	secretDirMode = 0o700
	secretMode    = 0o600
)

// finish shows what will be written, asks, and writes.
func (s *setup) finish(ctx context.Context) (*Result, error) {
	if err := s.lastCheck(); err != nil {
		return nil, err
	}
	text, err := s.draft.text()
	if err != nil {
		return nil, err
	}
	if s.draft.exists && string(text) == string(s.draft.base) {
		s.say("Nothing has changed: %s stays as it is.", s.Path)
		return &Result{}, nil
	}
	s.preview(text)
	answer, err := s.choose(ctx, "Write "+s.Path, "yes", Choice{"yes", "write it"}, Choice{"no", "leave everything as it was"})
	switch {
	case err != nil:
		return nil, stopped(ctx, err)
	case answer == "no" || ctx.Err() != nil:
		return nil, ErrStopped
	}
	// From here on an interruption comes too late: what follows is short, and
	// half of it is worse than all.
	if err := s.write(); err != nil {
		return nil, err
	}
	s.say("%s is written.", s.Path)
	return &Result{Changed: true, Created: !s.draft.exists}, nil
}

// lastCheck refuses answers that nothing was made of.
func (s *setup) lastCheck() error {
	if s.Answers[DKIMDomain] == "" && s.Answers[DKIMSelector]+s.Answers[DKIMKind] != "" && len(s.keys) == 0 {
		flag := DKIMSelector
		if s.Answers[flag] == "" {
			flag = DKIMKind
		}
		return s.refused(flag, errors.New("no key is made (give --dkim-domain DOMAIN too)"))
	}
	return nil
}

// preview shows a new file as a whole, and of an old one what changes.
func (s *setup) preview(text []byte) {
	if !s.draft.exists {
		s.say("%s will be:", s.Path)
		for line := range strings.Lines(strings.TrimPrefix(string(text), beginning)) {
			s.print("  " + line)
		}
	} else {
		s.say("Changes to %s:", s.Path)
		for _, line := range difference(string(s.draft.base), string(text)) {
			s.print("  " + line + "\n")
		}
	}
	for _, k := range s.keys {
		s.say("A new key goes to %s.", k.path)
	}
}

// difference is the lines that go and come, without those that are in both.
// The editor changes single lines and adds tables, so there is no need to find
// the shortest.
func difference(old, new string) []string {
	count := map[string]int{}
	for line := range strings.SplitSeq(old, "\n") {
		count[line]++
	}
	var out, added []string
	for line := range strings.SplitSeq(new, "\n") {
		if count[line] > 0 {
			count[line]--
		} else if strings.TrimSpace(line) != "" {
			added = append(added, "+ "+line)
		}
	}
	for line := range strings.SplitSeq(old, "\n") {
		if count[line] > 0 && strings.TrimSpace(line) != "" {
			count[line]--
			out = append(out, "- "+line)
		}
	}
	return append(out, added...)
}

// write makes directories and keys and then, last, the configuration, which
// alone makes them count. What was made before an error is removed again. A
// crash in between leaves a key that nothing names: the next set-up takes it.
func (s *setup) write() (err error) {
	var made []string
	defer func() {
		if err == nil {
			return
		}
		for i := len(made) - 1; i >= 0; i-- {
			err = errors.Join(err, os.Remove(made[i]))
		}
	}()
	mkdir := func(dir string, mode fs.FileMode) error {
		dirs, err := makeDirs(dir, mode)
		made = append(made, dirs...)
		return err
	}
	if err := mkdir(filepath.Dir(s.Path), configDirMode); err != nil {
		return err
	}
	if s.draft.touches(keys[Spool]) {
		if err := mkdir(s.draft.cfg.Spool, secretDirMode); err != nil {
			return err
		}
	}
	for _, k := range s.keys {
		if err := mkdir(filepath.Dir(k.path), secretDirMode); err != nil {
			return err
		}
		if err := writeSecret(k.path, k.text); err != nil {
			return err
		}
		made = append(made, k.path)
	}
	return config.Begin(s.Path, beginning, s.draft.changes...)
}

// makeDirs makes a directory and those above it, and gives those that were not
// there, outermost first.
func makeDirs(dir string, mode fs.FileMode) (made []string, err error) {
	var missing []string
	for d := dir; !exists(d); d = filepath.Dir(d) {
		missing = append(missing, d)
		if filepath.Dir(d) == d {
			break
		}
	}
	for i := len(missing) - 1; i >= 0; i-- {
		m := fs.FileMode(configDirMode)
		if i == 0 {
			m = mode
		}
		if err := os.Mkdir(missing[i], m); err != nil {
			if errors.Is(err, fs.ErrExist) {
				continue // somebody was faster
			}
			return made, fmt.Errorf("the directory %s cannot be made: %w", missing[i], reason(err))
		}
		made = append(made, missing[i])
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a directory")
	}
	if err != nil {
		return made, fmt.Errorf("%s cannot be used: %w", dir, reason(err))
	}
	return made, nil
}

// writeSecret writes a new file that only its owner reads, all of it or
// nothing, and never over another.
func writeSecret(path string, text []byte) (err error) {
	failed := func(err error) error { return fmt.Errorf("%s cannot be written: %w", path, reason(err)) }
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return failed(err)
	}
	defer os.Remove(f.Name())
	err = f.Chmod(secretMode)
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return failed(err)
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename it never replaces
		return failed(err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return failed(errors.Join(err, os.Remove(path)))
	}
	return nil
}

// syncDir makes a new name durable. Systems that cannot sync a directory say
// so, and need not.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}

// reason is an error of the file system without operation and path, which the
// message has already.
func reason(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}

// canWrite tells whether a file can be made or replaced, before anybody has
// answered a question for nothing.
func canWrite(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	file := path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		file = target
	}
	if err := canMake(filepath.Dir(file)); err != nil {
		return fmt.Errorf("%s cannot be written: %w (run this as root, or name another file with --config)", path, err)
	}
	return nil
}

// canMake tells whether files can be made in a directory, or it can itself be
// made. It tries, and leaves nothing.
func canMake(dir string) error {
	for !exists(dir) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
	}
	if info, err := os.Stat(dir); err != nil {
		return reason(err)
	} else if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	f, err := os.CreateTemp(dir, ".mailout-setup.*.tmp")
	if err != nil {
		return fmt.Errorf("in %s: %w", dir, reason(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
