/*
 * Prints what the kernel puts on its command line for each key that is named as an argument, a
 * line each, from a boot configuration on standard input. Linked with the kernel's own parser.
 */
#include <linux/bootconfig.h>

#define TEXT_MAX (32 * 1024)
#define LINE_MAX_SIZE (4 * TEXT_MAX)

int main(int argc, char **argv)
{
	static char text[TEXT_MAX + 1], line[LINE_MAX_SIZE];
	size_t length = fread(text, 1, TEXT_MAX, stdin);
	const char *message;
	int place, i;

	if (xbc_init(text, length + 1, &message, &place) < 0) {
		fprintf(stderr, "%s at %d\n", message, place);
		return 1;
	}
	for (i = 1; i < argc; i++) {
		struct xbc_node *root = xbc_find_node(argv[i]);

		line[0] = '\0';
		if (root && xbc_snprint_cmdline(line, sizeof(line), root) < 0)
			line[0] = '\0';
		printf("%s\n", line);
	}
	return 0;
}
