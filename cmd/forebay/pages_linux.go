package main

import (
	"debug/elf"

	"golang.org/x/sys/unix"
)

// releaseStartPages takes the program's own code and constants out of the process's resident memory: most of what a start touches is never used again, and what is
// comes back from the page cache at its next use. Only what the ELF file says is not writable, in a program that is not relocated (madvise(2), MADV_DONTNEED of a private
// file mapping). An error is of no concern: the memory stays.
func releaseStartPages() {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }() // read only
	if f.Type != elf.ET_EXEC {
		return
	}
	page := uint64(unix.Getpagesize())
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_W != 0 {
			continue
		}
		from, to := (p.Vaddr+page-1)/page*page, (p.Vaddr+p.Filesz)/page*page
		if from < to {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_DONTNEED)
		}
	}
}
