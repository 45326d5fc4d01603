/* Packs a text with zlib, unpacks it again, and says where it runs. */
#include <stdio.h>
#include <string.h>
#include <zlib.h>

/* Prints "inside Debian 13" from /etc/os-release. */
static int say_where(void)
{
	char line[256], version[64] = "?";
	FILE *file = fopen("/etc/os-release", "r");

	if (!file) {
		perror("/etc/os-release");
		return 1;
	}
	while (fgets(line, sizeof line, file))
		sscanf(line, "VERSION_ID=\"%63[^\"]", version);
	fclose(file);
	printf("inside Debian %s\n", version);
	return 0;
}

int main(void)
{
	static const char text[] =
		"one small file, one store, one small process number one; "
		"one small file, one store, one small process number one";
	unsigned char packed[256];
	char unpacked[sizeof text];
	uLongf packed_size = sizeof packed, size = sizeof unpacked;

	if (say_where())
		return 1;
	if (compress(packed, &packed_size, (const Bytef *)text, sizeof text) != Z_OK)
		return 1;
	if (uncompress((Bytef *)unpacked, &size, packed, packed_size) != Z_OK)
		return 1;
	printf("zlib %s: %zu bytes packed into %lu\n", zlibVersion(), sizeof text, packed_size);
	printf("round trip: %s\n", memcmp(text, unpacked, sizeof text) ? "broken" : "ok");
	return 0;
}
