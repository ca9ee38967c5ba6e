package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// facts are the machine and the programs, without names or paths.
type facts struct {
	date     string
	cpu      string
	cores    int
	memory   int64
	kernel   string
	disk     string
	versions []string
	busy     float64 // part of the processors in use before anything ran
	noise    int64   // octets a second that the disk wrote then
}

// quiet is how long the machine is watched before the first measurement.
const quiet = 3 * time.Second

func gatherFacts(ctx context.Context, peers []peer) *facts {
	f := &facts{
		date: time.Now().UTC().Format(time.DateOnly), cores: runtime.NumCPU(),
		cpu: valueOf("/proc/cpuinfo", "model name"), disk: describeDisk(),
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		f.memory = field(b, "MemTotal:") << 10
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		f.kernel = strings.TrimSpace(string(b))
	}
	for _, p := range peers {
		f.versions = append(f.versions, versionOf(ctx, p)...)
	}
	f.versions = append(f.versions, "Go "+strings.TrimPrefix(runtime.Version(), "go"))
	idle, total := processors()
	disk := diskWritten()
	_ = pause(ctx, quiet)
	idle2, total2 := processors()
	if total2 > total {
		f.busy = 1 - float64(idle2-idle)/float64(total2-total)
	}
	f.noise = int64(float64(diskWritten()-disk) / quiet.Seconds())
	return f
}

func versionOf(ctx context.Context, p peer) []string {
	if p.missing() {
		return []string{p.title + ": could not be had"}
	}
	if len(p.version) == 0 {
		return nil
	}
	out, err := exec.CommandContext(ctx, p.version[0], p.version[1:]...).Output()
	text := strings.TrimSpace(string(out))
	if err != nil || text == "" {
		text = "version unknown"
	}
	return []string{p.title + " " + strings.TrimPrefix(text, p.title+" ")}
}

// valueOf is the value behind "name : " in a file of /proc.
func valueOf(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// describeDisk is the file system of the spools and what is below it.
func describeDisk() string {
	var fs syscall.Statfs_t
	kind := "file system of type unknown"
	if err := syscall.Statfs(base+"/spool", &fs); err == nil {
		kind = fmt.Sprintf("file system of type %#x", fs.Type)
		if name := map[int64]string{0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x01021994: "tmpfs", 0x2fc12fc1: "zfs"}[int64(fs.Type)]; name != "" {
			kind = name
		}
	}
	dir, err := filepath.EvalSymlinks(deviceDir())
	if err != nil {
		return kind
	}
	queue := filepath.Join(dir, "queue")
	if _, err := os.Stat(queue); err != nil { // a partition
		queue = filepath.Join(filepath.Dir(dir), "queue")
	}
	text := kind + " on " + deviceKind(filepath.Base(dir))
	if readLine(queue+"/rotational") == "1" {
		text += ", which calls itself rotating"
	}
	if c := readLine(queue + "/write_cache"); c != "" {
		text += ", " + c
	}
	return text
}

func deviceKind(name string) string {
	for prefix, kind := range map[string]string{"vd": "a virtio disk", "nvme": "an NVMe disk", "sd": "a SCSI or SATA disk", "dm": "a mapped device", "md": "a RAID"} {
		if strings.HasPrefix(name, prefix) {
			return kind
		}
	}
	return "a block device"
}

func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// processors gives the idle and the whole time of all processors, in ticks.
func processors() (idle, total int64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, s := range strings.Fields(line) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || i > 8 { // "cpu"; guests are counted in user already
			continue
		}
		total += n
		if i == 4 || i == 5 { // idle, waiting for the disk
			idle += n
		}
	}
	return idle, total
}
