package mtatest

import (
	"os/exec"
	"syscall"
)

// EndTogether lets a child be killed when the process that starts it dies, so
// that a test that is killed leaves no daemon behind.
func EndTogether(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
