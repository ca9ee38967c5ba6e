// Command profiled runs mailout's daemon, as `mailout serve` does, and writes
// profiles of it until SIGTERM: processor time (cpu.pprof), allocations
// (allocs.pprof) and, when asked for, waiting (block.pprof, mutex.pprof). It
// exists so that the daemon itself needs no such hook. bench/profile.sh calls
// it. Its goroutines are the daemon's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"

	"mailout/internal/config"
	"mailout/internal/daemon"
)

func main() {
	path := flag.String("config", "mailout.toml", "configuration file")
	out := flag.String("out", ".", "folder for the profiles")
	kinds := flag.String("kinds", "cpu", `"cpu", "block", "mutex", or several`)
	flag.Parse()
	if err := run(*path, *out, *kinds); err != nil {
		fmt.Fprintln(os.Stderr, "profiled:", err)
		os.Exit(1)
	}
}

func run(path, out, kinds string) error {
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if strings.Contains(kinds, "block") {
		runtime.SetBlockProfileRate(10_000) // one in ten microseconds of waiting
	}
	if strings.Contains(kinds, "mutex") {
		runtime.SetMutexProfileFraction(10)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	d := daemon.New(daemon.Options{ConfigPath: path, Config: cfg, Logger: log, Version: "profiled"})
	if err := d.Start(ctx); err != nil {
		return err
	}
	cpu, err := os.Create(filepath.Join(out, "cpu.pprof"))
	if err == nil {
		err = pprof.StartCPUProfile(cpu)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-d.Failed():
		}
		pprof.StopCPUProfile()
		err = errors.Join(err, cpu.Close(), profiles(out, kinds))
	}
	limit, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), d.StopLimit())
	defer cancelStop()
	return errors.Join(err, d.Stop(limit))
}

// profiles writes those that gather by themselves.
func profiles(out, kinds string) error {
	for _, name := range []string{"allocs", "block", "mutex"} {
		if name != "allocs" && !strings.Contains(kinds, name) {
			continue
		}
		f, err := os.Create(filepath.Join(out, name+".pprof"))
		if err != nil {
			return err
		}
		if err := errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
