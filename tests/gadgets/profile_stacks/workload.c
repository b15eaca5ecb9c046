/* A function that always runs. */
#include <stdio.h>

static volatile unsigned long turns;

__attribute__((noinline)) void turns_round_and_round(void)
{
	for (;;)
		turns++;
}

int main(void)
{
	puts("ready");
	fflush(stdout);
	turns_round_and_round();
}
