/*
 * A small netcat for AF_VSOCK, for guests whose busybox has none. Built by test/integration/host-streams.test.ts.
 *
 *   vsock connect PORT     connects to a port of the host; stdin goes there, what comes goes to stdout
 *   vsock listen PORT      the same with the first connection to a port of the guest
 *   vsock echo PORT        serves all connections to a port, each until its end
 */
#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static void copy(int from, int to) {
	static char buffer[65536];
	ssize_t n;
	while ((n = read(from, buffer, sizeof buffer)) > 0)
		for (ssize_t at = 0, m; at < n; at += m)
			if ((m = write(to, buffer + at, n - at)) < 0)
				err(1, "write");
	if (n < 0)
		err(1, "read");
}

/* Both directions at once, each until its end. */
static void exchange(int s) {
	pid_t child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		copy(s, 1);
		exit(0);
	}
	copy(0, s);
	shutdown(s, SHUT_WR);
	int status;
	waitpid(child, &status, 0);
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int main(int argc, char **argv) {
	if (argc != 3)
		errx(2, "usage: vsock connect|listen|echo PORT");
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_port = strtoul(argv[2], 0, 0)};
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (s < 0)
		err(1, "socket");
	if (strcmp(argv[1], "connect") == 0) {
		a.svm_cid = VMADDR_CID_HOST;
		if (connect(s, (struct sockaddr *)&a, sizeof a) != 0)
			err(1, "connect");
		exchange(s);
	}
	a.svm_cid = VMADDR_CID_ANY;
	if (bind(s, (struct sockaddr *)&a, sizeof a) != 0 || listen(s, 16) != 0)
		err(1, "listen");
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int c = accept(s, 0, 0);
		if (c < 0)
			err(1, "accept");
		if (strcmp(argv[1], "listen") == 0) {
			signal(SIGCHLD, SIG_DFL);
			exchange(c);
		}
		if (fork() == 0) {
			copy(c, c);
			exit(0);
		}
		close(c);
	}
}
