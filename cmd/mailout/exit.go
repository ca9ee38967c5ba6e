package main

import "fmt"

// Exit statuses of sysexits(3).
const (
	exitFailure      = 1
	exitUsage        = 64
	exitData         = 65
	exitNoInput      = 66
	exitNoUser       = 67
	exitUnavailable  = 69
	exitSoftware     = 70
	exitIO           = 74
	exitTemporary    = 75
	exitNoPermission = 77
	exitConfig       = 78
)

// exitError ends the program with a status; Err, when there is one, is
// printed to stderr as it is.
type exitError struct {
	Status int
	Err    error
	Field  string // of the request at fault, as the daemon named it
}

// Error implements error.
func (e *exitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.Err }

// fail makes an exitError from a sentence.
func fail(status int, format string, args ...any) error {
	return &exitError{Status: status, Err: fmt.Errorf("mailout: "+format, args...)}
}
