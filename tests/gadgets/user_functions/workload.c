// SPDX-License-Identifier: Apache-2.0
/* Calls functions that the tests know, and sends packets.
 * usage: workload [NUMBER | wait | repeat TIMES [ADDRESS PORT]] */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((noinline, used)) int user_double(int number)
{
	__asm__ volatile("");
	return 2 * number;
}

__attribute__((noinline, used)) int user_triple(int number)
{
	__asm__ volatile("");
	return 3 * number;
}

/* A datagram; lost where there is no way yet. */
static void send_to(const char *address, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, address, &to.sin_addr);
	sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to));
	close(fd);
}

int main(int argc, char **argv)
{
	int number = argc > 1 ? atoi(argv[1]) : 7;

	/* The first process of something like a container. */
	if (argc > 1 && !strcmp(argv[1], "wait"))
		return pause();
	/* As long as a container that is traced from the middle on still has something to tell. */
	if (argc > 2 && !strcmp(argv[1], "repeat")) {
		for (int time = 0; time < atoi(argv[2]); time++) {
			setlinebuf(stdout);
			user_double(time);
			if (argc > 4)
				send_to(argv[3], atoi(argv[4]));
			usleep(20000);
		}
		return 0;
	}
	setlinebuf(stdout);
	printf("%d %d\n", user_double(number), user_triple(number));
	return 0;
}
