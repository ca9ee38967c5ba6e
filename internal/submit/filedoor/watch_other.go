//go:build !linux

package filedoor

// Watch is not possible here: polling must do.
func Watch(string, Event, func(string, Event)) (stop func()) { return nil }
