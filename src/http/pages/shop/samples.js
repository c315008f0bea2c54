// Real books to play with, described in our own words.

export const SAMPLES = [
  { id: '1000067', title: '美丽心灵', author: '[美] 西尔维娅·娜萨', publisher: '上海科技教育出版社', isbn: '9787542823823', price: 3879, pages: 594, tags: ['传记', '数学', '纳什'], book_intro: '数学家约翰·纳什的传记。 The life of the mathematician John Nash.' },
  { id: '1007305', title: '红楼梦', author: '曹雪芹 著，高鹗 续', publisher: '人民文学出版社', isbn: '9787020002207', price: 5970, tags: ['古典文学', '小说'], book_intro: '一个大家族的兴衰，古典小说的高峰。 The rise and fall of a great house: the classic Chinese novel.' },
  { id: '1008145', title: '围城', author: '钱钟书', publisher: '人民文学出版社', isbn: '9787020024759', price: 1900, tags: ['小说', '中国文学'], book_intro: '城外的人想冲进去，城里的人想逃出来。 A comedy of marriage and manners in wartime China.' },
  { id: '1003479', title: '中国历代政治得失', author: '钱穆', publisher: '生活·读书·新知三联书店', isbn: '9787108015280', price: 1200, tags: ['历史', '政治'], book_intro: '五讲汉、唐、宋、明、清的制度。 Five lectures on how dynasties governed, a history of institutions.' },
  { id: '1006737', title: '米', author: '苏童', publisher: '台海出版社', isbn: '9787801411235', price: 1800, tags: ['小说'], book_intro: '一个逃荒的人和一家米店。 A man who flees from famine, and a rice shop.' },
  { id: '1007772', title: '双城记', author: '[英] 查尔斯·狄更斯', publisher: '人民文学出版社', isbn: '9787020022298', price: 1410, tags: ['外国文学', '小说'], book_intro: '法国大革命中的伦敦与巴黎。 A Tale of Two Cities, by Charles Dickens: London and Paris in the revolution.' },
  { id: '1008988', title: '了不起的盖茨比', author: '[美] 菲茨杰拉德', publisher: '人民文学出版社', isbn: '9787020046089', price: 1200, tags: ['外国文学', '美国'], book_intro: '爵士时代的一个夏天。 The Great Gatsby: a summer of the jazz age.' },
  { id: '1009258', title: '背影', author: '朱自清', publisher: '人民文学出版社', isbn: '9787020027064', price: 450, tags: ['散文', '中国文学'], book_intro: '父亲的背影。 Essays, with the one about a father seen from behind.' },
];
